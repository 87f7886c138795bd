"""Make the folder that visionts-mae-tiny starts from: mae-tiny, taken for VisionTS.

    python plugins/representation/visionts_start.py mae-tiny visionts-start

The first may also be a run's or a saved folder. Its pictures are small: ``align=1`` gives the visible part all of its share, or a day of
the future were narrower than two pixels.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from safetensors.torch import save_file

import stzoo

HEADS = ("num_heads", "decoder_num_heads")


def main(model: str, folder: str) -> None:
    known = stzoo.load(model, device="cpu")
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "mae.safetensors"
        save_file({key: value.contiguous() for key, value in known.module.state_dict().items()}, path)
        heads = {key: known.config[key] for key in HEADS}
        stzoo.import_checkpoint(path, architecture="visionts", device="cpu", align=1.0, **heads).save(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
