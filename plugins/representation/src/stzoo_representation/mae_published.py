"""The published masked autoencoders: their sizes, as plain data."""

from __future__ import annotations

from typing import Any

SIZES: dict[str, dict[str, Any]] = {
    "base": {"patch_size": 16, "embed_dim": 768, "depth": 12, "num_heads": 12},
    "large": {"patch_size": 16, "embed_dim": 1024, "depth": 24, "num_heads": 16},
    "huge": {"patch_size": 14, "embed_dim": 1280, "depth": 32, "num_heads": 16},
}
"""The encoders (paper, section 4; the official code's factories)."""
DECODER = {"decoder_embed_dim": 512, "decoder_depth": 8, "decoder_num_heads": 16}
"""Of all of them."""
PARAMETERS = {
    "base": (111_655_680, 85_647_360, 86_416_360),
    "large": (329_239_296, 303_099_904, 304_124_904),
    "huge": (656_613_964, 630_435_840, 631_716_840),
}
"""With decoder, the encoder alone, the encoder with ImageNet's thousand classes. Positions, which are fixed, do not count."""
