"""Clips: from a small one to a large one, from a large one to an example, and the metrics of that.

Networks of this task enlarge the luma of one frame, given the frames around it; colour follows bicubically. Beyond the ends
of a clip its first or last frame is repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from stzoo import Pipeline, Requirements, media
from stzoo.errors import DatasetError, InputError
from stzoo.layout import existing
from stzoo.predictor import tensor_of
from stzoo_super_resolution.metrics import LUMA, SCALE, psnr_y, ssim_y
from stzoo_super_resolution.pipeline import to_luma
from stzoo_super_resolution.resize import imresize, imresize_uint8

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stzoo_super_resolution.temporal import TemporalAdaptiveSR

Clip = NDArray[np.float32]
_ANY = Requirements()


def luma(clip: Clip) -> Clip:
    """The luma of a clip (T,C,H,W) in [0,1]: (T,H,W), Y / 255 of BT.601 (16 to 235) for colours, a grey clip as it is."""
    if clip.shape[1] < 3:
        return clip[:, 0]
    weighted: Clip = np.tensordot(clip[:, :3], (LUMA / 255).astype(np.float32), (1, 0))
    return weighted + np.float32(16 / 255)


def cropped(clip: Clip, scale: int) -> Clip:
    """Pictures (...,H,W) without the last rows and columns that are no multiple of the scale.

    Raises:
        InputError: nothing is left.
    """
    height, width = (side - side % scale for side in clip.shape[-2:])
    if not height or not width:
        raise InputError(f"a clip of {clip.shape[-1]}x{clip.shape[-2]} pixels cannot be made {scale} times smaller")
    return clip[..., :height, :width]


def degraded(clip: Clip, scale: int) -> Clip:
    """A clip (T,C,H,W) made ``scale`` times smaller with MATLAB's bicubic on 8 bits, as the field's test clips are."""
    return imresize_uint8(media.to_uint8(clip), 1 / scale).astype(np.float32) / np.float32(255)


class VideoSuperResolution(Pipeline):
    """Frame by frame: what is held in memory beside the two clips does not grow with their length."""

    padded = False

    def example(self, row: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The small clip is ``row["low"]``, where there is one, and otherwise made of the large one, ``row["video"]``.

        Raises:
            InputError: the two do not belong together.
        """
        scale, high, low = self.requirements.scale, row["video"], row.get("low")
        if low is None:
            high = cropped(high, scale)
            return {"video": degraded(high, scale)}, {"video": high}
        wanted = (len(low), *(side * scale for side in low.shape[-2:]))
        if (len(high), *high.shape[-2:]) != wanted:
            raise InputError(
                f"the small clip has {len(low)} frames of {low.shape[-1]}x{low.shape[-2]} pixels, the large one "
                f"{len(high)} of {high.shape[-1]}x{high.shape[-2]}: that is not {scale} times as large",
                "Give pairs of the model's scale",
            )
        return {"video": low}, {"video": high}

    def preprocess(self, values: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """The clip as it is. Raises InputError for anything but 1 (grey), 3 (RGB) or 4 (RGBA) channels."""
        channels = values["video"].shape[1]
        if channels not in (1, 3, 4):
            raise InputError(f"video: {channels} channels", "Give grey (1), RGB (3) or RGBA (4)")
        return dict(values)

    def forward(self, module: nn.Module, batch: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
        """``batch["video"]`` (B,T,C,H,W) to as many frames, ``scale`` times as high and wide, in [0,1]."""
        network, clip = cast("TemporalAdaptiveSR", module), batch["video"]
        reach, scale, place = self.requirements.reach_frames or 0, self.requirements.scale, tensor_of(module)
        brightness = to_luma(clip[:, :, :3].flatten(0, 1)).view(*clip.shape[:2], *clip.shape[-2:])
        made = clip.new_empty((*clip.shape[:3], *(side * scale for side in clip.shape[-2:])))
        for time in range(clip.shape[1]):
            near = [min(max(other, 0), clip.shape[1] - 1) for other in range(time - reach, time + reach + 1)]
            aligned = network.align(brightness[:, near].to(place.device, place.dtype))
            sharp = self.run(module, aligned, options=options)
            if (
                clip.shape[2] > 1
            ):  # with bicubic chroma, colours differ from bicubic ones by the luma's difference alone
                smooth = imresize(clip[:, time], scale)
                smooth[:, :3] += (sharp - to_luma(smooth[:, :3])) * (255 / 219)
                sharp = smooth
            made[:, time] = sharp.clamp_(0, 1)
        return {"video": made}


def bicubic(inputs: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, Any]:
    """The baseline of the task: every frame enlarged with MATLAB's bicubic, to the size of the truth."""
    low, size = inputs["video"], truth["video"].shape[-2:]
    return {"video": imresize(low, size[0] / low.shape[-2], size=size).clip(0, 1)}


# --- metrics ----------------------------------------------------------------------------------------------------------


def psnr_frames(
    prediction: NDArray[np.generic], target: NDArray[np.generic], crop: int = SCALE, requirements: Requirements = _ANY
) -> NDArray[np.float64]:
    """PSNR of the luma of each frame in dB, of clips (T,C,H,W); arguments as :func:`metrics.psnr_y`."""
    return np.array([psnr_y(*frames, crop, requirements) for frames in zip(prediction, target, strict=True)])


def ssim_frames(
    prediction: NDArray[np.generic], target: NDArray[np.generic], crop: int = SCALE, requirements: Requirements = _ANY
) -> NDArray[np.float64]:
    """Structural similarity of the luma of each frame, of clips (T,C,H,W); arguments as :func:`metrics.ssim_y`."""
    return np.array([ssim_y(*frames, crop, requirements) for frames in zip(prediction, target, strict=True)])


# --- data sets as they are published ----------------------------------------------------------------------------------

VID4 = ("calendar", "city", "foliage", "walk")
REDS4 = ("000", "011", "015", "020")
"""The clips of REDS's training part that most papers test on (EDVR, CVPRW 2019)."""


def pan(split: str) -> list[dict[str, Any]]:
    """Seven frames of 160x160 pixels, as a camera would see them that pans over a part of Kodak's 23rd photograph."""
    picture = media.read_image(Path(__file__).parent / "data/kodak23.png", "video", 3)
    return [{"video": np.stack([picture[:, 60 + 5 * step :, 20 + 12 * step :][:, :160, :160] for step in range(7)])}]


def vid4(split: str, root: str = "", low: str = "") -> list[dict[str, str]]:
    """Vid4 (Liu and Sun, CVPR 2011): four clips to test on.

    Args:
        split: "test".
        root: folder with ``GT/calendar/00000001.png`` …, or ``calendar/`` … themselves, or ``calendar/original/``.
        low: folder in it with the small clips, such as ``BIx4``; default: they are made.

    Raises:
        DatasetError: a folder is missing.
    """
    top = existing(root, "vid4?root=Vid4")
    rows = []
    for name in VID4:
        places = (top / "GT" / name, top / name / "original", top / name)
        high = next((place for place in places if place.is_dir()), places[0])
        rows.append(_pair(high, top / low / name if low else None))
    return rows


def reds(split: str, root: str = "", low: str = "") -> list[dict[str, str]]:
    """REDS (Nah et al., CVPRW 2019): clips of 100 frames of 1280x720 pixels.

    Args:
        split: "train" (without those of REDS4), "validation", or "test" (REDS4).
        root: folder with ``train_sharp/000/00000000.png`` … and ``val_sharp``.
        low: ending of the folder with the small clips, such as ``bicubic/X4`` for ``train_sharp_bicubic/X4``; default: they
            are made.

    Raises:
        DatasetError: a folder is missing, or has no clip of the split.
    """
    part = "val_sharp" if split == "validation" else "train_sharp"
    top = existing(root, "reds?root=REDS")
    found = sorted(place for place in existing(top / part, "reds?root=REDS").iterdir() if place.is_dir())
    chosen = [place for place in found if split == "validation" or (place.name in REDS4) == (split == "test")]
    if not chosen:
        raise DatasetError(f"{top / part} has no clip for the split {split!r}", "Is the data set complete?")
    return [_pair(place, top / f"{part}_{low}" / place.name if low else None) for place in chosen]


def _pair(high: Path, low: Path | None) -> dict[str, str]:
    for folder in (high, low or high):
        if not folder.is_dir():
            raise DatasetError(f"there is no folder {folder}", "Is the data set complete?")
    return {"video": str(high)} | ({"low": str(low)} if low else {})
