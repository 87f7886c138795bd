"""SRCNN and ESPCN as others publish them: rows to import by name.

The files of yjn870's ports (https://github.com/yjn870/SRCNN-pytorch and ESPCN-pytorch, no licence stated), trained on the 91
pictures that Pillow made smaller, and the numbers of their READMEs, which are of such pictures too. SRCNN's authors publish
theirs as MATLAB files in one archive (http://mmlab.ie.cuhk.edu.hk/projects/SRCNN.html): unpacked, ``stzoo import
"model/9-5-5(ImageNet)/x3.mat" --set scale=3`` reads one.
"""

from __future__ import annotations

from typing import Any

from stzoo import Measurement, Model, Requirements, Source

_FILES: tuple[tuple[str, int, str, float, int, int], ...] = (
    ("srcnn", 2, "rxluu1y8ptjm4rn", 36.65, 6, 57_281),
    ("srcnn", 3, "zn4fdobm2kw0c58", 33.29, 5, 57_281),
    ("srcnn", 4, "pd5b2ketm0oamhj", 30.25, 4, 57_281),
    ("espcn", 3, "2fl5jz5nw9oiw1f", 32.88, 4, 22_729),
)
"""Architecture, scale, the address's key, PSNR on Set5, reach and parameters."""


def _row(architecture: str, scale: int, key: str, psnr: float, reach: int, parameters: int) -> Model:
    config: dict[str, Any] = {"scale": scale}
    if architecture == "srcnn":
        config |= {"kernels": (9, 5, 5), "padding": "zeros"}
    note = f"{architecture.upper()}-pytorch, pictures made smaller by Pillow"
    return Model(
        name=f"{architecture}-x{scale}.yjn870",
        architecture=architecture,
        config=config,
        source=Source(f"https://www.dropbox.com/s/{key}/{architecture}_x{scale}.pth?dl=1"),
        license="unknown",
        trained_on="91 images",
        description=f"{architecture.upper()} for pictures made {scale} times smaller (yjn870's weights)",
        metrics=(Measurement(f"Set5 (x{scale})", "psnr", psnr, "published", note),),
        requirements=Requirements(scale=scale, reach=reach),
        parameters=parameters,
        tags=("community",),
    )


MODELS: tuple[Model, ...] = tuple(_row(*file) for file in _FILES)
