"""Video super-resolution with learned temporal dynamics: several temporal scales, weighted for each pixel.

Paper: Liu et al., "Robust Video Super-Resolution with Learned Temporal Dynamics", ICCV 2017. There is no official code: the
network follows the paper, and where the paper does not say (border of the warp, fusion without softmax) it says so here.

N branches see 1, 3, ..., 2N-1 frames around the one to enlarge; a temporal modulation branch sees all of them and gives
each branch a weight for each pixel. Neighbouring frames are first moved onto the middle one, one translation for each tile:
the rounded mean of its optical flow, or what a small network says that learned from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from stzoo import Requirements
from stzoo.errors import ConfigError, DependencyMissing, FormatError, InputError
from stzoo.formats import check_tensors

_REACH = 4
"""Pixels around one that the convolutions 5x5, 3x3 and 3x3 see."""


# --- translations -----------------------------------------------------------------------------------------------------


def translate(frames: Tensor, translation: Tensor, rows: slice = slice(None), columns: slice = slice(None)) -> Tensor:
    """Move pictures by whole or broken pixels: out(y, x) = frames(y + dy, x + dx), bilinear, the border repeated.

    Args:
        frames: (B,C,H,W).
        translation: (B,2), (dx, dy) in pixels; gradients flow into it.
        rows, columns: the part of the result that is wanted.

    Returns:
        (B,C,h,w), whole if no part is asked for.
    """
    height, width = frames.shape[-2:]
    # Without align_corners pixel x lies at (2x + 1) / W - 1, which also holds for one that is alone in its row.
    y, x = (torch.arange(side, device=frames.device, dtype=frames.dtype) for side in (height, width))
    dx, dy = translation[:, None].unbind(-1)
    grid_x, grid_y = (2 * (x[columns] + dx) + 1) / width - 1, (2 * (y[rows] + dy) + 1) / height - 1
    size = (len(frames), grid_y.shape[1], grid_x.shape[1])
    grid = torch.stack((grid_x[:, None].expand(size), grid_y[:, :, None].expand(size)), dim=-1)
    return F.grid_sample(frames, grid, padding_mode="border", align_corners=False)


def rectified_translation(flow: Tensor) -> Tensor:
    """Rectified optical flow: the mean over a tile, rounded to whole pixels (halves to even).

    Args:
        flow: (...,2,H,W), (dx, dy) in pixels.

    Returns:
        (...,2).
    """
    return flow.mean((-2, -1)).round()


def optical_flow(reference: NDArray[np.float32], moving: NDArray[np.float32]) -> NDArray[np.float32]:
    """Where each pixel of one picture is in another: the iterative Lucas-Kanade flow of scikit-image.

    Args:
        reference, moving: (H,W), values in [0,1].

    Returns:
        (2,H,W), (dx, dy): reference(y, x) is about moving(y + dy, x + dx). Zero where there is one row or column only.

    Raises:
        DependencyMissing: scikit-image is not installed.
    """
    try:
        from skimage.registration import optical_flow_ilk
    except ImportError:
        raise DependencyMissing(
            "aligning frames by optical flow needs scikit-image", "Run: pip install 'stzoo-super-resolution[flow]'"
        ) from None
    if min(reference.shape) < 2:
        return np.zeros((2, *reference.shape), np.float32)
    found: NDArray[np.float32] = optical_flow_ilk(reference, moving, num_warp=4, dtype=np.float32)[::-1]  # type: ignore[no-untyped-call]
    return found


def flows(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """The flow from the middle frame to every other one: (T,H,W), T odd, values in [0,1], to (T-1,2,H,W)."""
    middle = len(frames) // 2
    others = [frame for index, frame in enumerate(frames) if index != middle]
    return np.stack([optical_flow(frames[middle], other) for other in others])


# --- network ----------------------------------------------------------------------------------------------------------


class SubPixelNet(nn.Module):
    """ESPCN: convolutions 5x5, 3x3 and 3x3 with ReLU in between, zeros around, then a pixel shuffle."""

    def __init__(self, frames: int, filters: tuple[int, int], maps: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.conv1 = nn.Conv2d(frames, filters[0], 5, padding=2)
        self.conv2 = nn.Conv2d(filters[0], filters[1], 3, padding=1)
        self.conv3 = nn.Conv2d(filters[1], maps * scale**2, 3, padding=1)

    @torch.no_grad()
    def start_bilinear(self) -> None:
        """Parameters that enlarge the middle frame bilinearly, through the first channels; ReLU does not touch luma."""
        for layer, source in ((self.conv1, self.conv1.in_channels // 2), (self.conv2, 0)):
            layer.weight[0] = 0
            layer.weight[0, source, layer.kernel_size[0] // 2, layer.kernel_size[0] // 2] = 1
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        centres = (torch.arange(self.scale) + 0.5) / self.scale - 0.5
        taps = (1 - (centres[:, None] - torch.arange(-1, 2)).abs()).clamp(min=0)
        self.start_constant(0)
        self.conv3.weight[:, 0] = torch.einsum("ay,bx->abyx", taps, taps).flatten(0, 1)

    def start_constant(self, value: float) -> None:
        """Parameters of the last layer with which every map is ``value``."""
        nn.init.zeros_(self.conv3.weight)
        nn.init.constant_(self.conv3.bias, value)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv2(F.relu(self.conv1(x), inplace=True)), inplace=True)
        return F.pixel_shuffle(self.conv3(x), self.scale)


class LocalisationNet(nn.Module):
    """How far one picture is to be moved to lie on another: two 9x9 convolutions with pooling, two linear layers."""

    def __init__(self, window: tuple[int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 32, 9, padding=4)
        self.conv2 = nn.Conv2d(32, 32, 9, padding=4)
        self.fc1 = nn.Linear(32 * (window[0] // 4) * (window[1] // 4), 100)
        self.fc2 = nn.Linear(100, 2)
        nn.init.zeros_(self.fc2.weight)  # at first nothing is moved
        nn.init.zeros_(self.fc2.bias)

    def forward(self, pair: Tensor) -> Tensor:
        """(B,2,H,W), the frame to lie on and the one to move, to (B,2): (dx, dy) as :func:`translate` takes them.

        Raises:
            InputError: the pictures have another size than the network was made for.
        """
        height, width = pair.shape[-2:]
        if 32 * (height // 4) * (width // 4) != self.fc1.in_features:
            raise InputError(
                f"tiles of {width}x{height} pixels do not fit the linear layer, {self.fc1.in_features} inputs"
            )
        x = F.max_pool2d(F.relu(self.conv1(pair), inplace=True), 2)
        x = F.max_pool2d(F.relu(self.conv2(x), inplace=True), 2)
        moved: Tensor = self.fc2(F.relu(self.fc1(x.flatten(1))))
        return moved


class TemporalAdaptiveSR(nn.Module):
    """2N-1 frames in, the middle one enlarged out; luma only.

    Args:
        scale: how many times larger, from 1.
        branches: N; branch i (from 1) sees the 2i-1 frames in the middle.
        filters: channels of the two hidden layers of each branch and of the modulation.
        fusion: "raw" weights the branches with the maps as they are (eq. 2), "softmax" with their softmax.
        alignment: how neighbours are moved onto the middle frame: "none", "flow" (rectified optical flow) or "network".
        window: height and width of the tiles that share one translation, from 4 pixels; the inner half of each is used.

    Raises:
        ConfigError: a value is out of range.
    """

    def __init__(
        self,
        scale: int = 4,
        branches: int = 3,
        filters: tuple[int, int] = (64, 32),
        fusion: str = "raw",
        alignment: str = "network",
        window: tuple[int, int] = (60, 60),
    ) -> None:
        for wrong, problem in (
            (scale < 1, f"scale must be at least 1, got {scale}"),
            (branches < 1, f"branches must be at least 1, got {branches}"),
            (len(filters) != 2 or min(filters) < 1, f"filters must be two positive numbers, got {filters}"),
            (fusion not in ("raw", "softmax"), f"fusion must be 'raw' or 'softmax', got {fusion!r}"),
            (
                alignment not in ("none", "flow", "network"),
                f"alignment must be 'none', 'flow' or 'network', got {alignment!r}",
            ),
            (len(window) != 2 or min(window) < 4, f"window must be two numbers of at least 4 pixels, got {window}"),
        ):
            if wrong:
                raise ConfigError(problem)
        super().__init__()
        self.scale, self.fusion, self.alignment, self.window = scale, fusion, alignment, window
        self.frames = 2 * branches - 1
        self.step = (window[0] // 2, window[1] // 2)
        self.margin = ((window[0] - self.step[0]) // 2, (window[1] - self.step[1]) // 2)
        self.branches = nn.ModuleList(SubPixelNet(2 * i + 1, filters, 1, scale) for i in range(branches))
        self.temporal_modulation = SubPixelNet(self.frames, filters, branches, scale)
        for branch in self.branches:
            cast(SubPixelNet, branch).start_bilinear()
        self.temporal_modulation.start_constant(1 / branches)  # at first the branches' mean
        if alignment == "network":
            self.loc = LocalisationNet(window)

    @property
    def requirements(self) -> Requirements:
        """Any number of frames of any size, grey or in colour."""
        return Requirements(scale=self.scale, reach=_REACH, reach_frames=self.frames // 2)

    def forward(self, frames: Tensor) -> Tensor:
        """Enlarge the middle frame; its neighbours lie on it already (see :meth:`align`).

        Args:
            frames: (B,2N-1,H,W), luma in [0,1].

        Returns:
            (B,1,scale*H,scale*W), not clipped.

        Raises:
            InputError: not as many frames.
        """
        return self.fuse(self.temporal_scales(frames), self.temporal_modulation(frames))

    def temporal_scales(self, frames: Tensor) -> Tensor:
        """What each branch makes of the frames (B,2N-1,H,W): (B,N,scale*H,scale*W). Raises InputError as ``forward``."""
        if frames.ndim != 4 or frames.shape[1] != self.frames:
            raise InputError(f"expected (batch, {self.frames} frames, height, width), got {tuple(frames.shape)}")
        middle = self.frames // 2
        return torch.cat(
            [branch(frames[:, middle - i : middle + i + 1]) for i, branch in enumerate(self.branches)], dim=1
        )

    def fuse(self, scales: Tensor, weights: Tensor) -> Tensor:
        """The branches' pictures and their weights, both (B,N,H,W), to one picture (B,1,H,W)."""
        return (scales * (weights.softmax(1) if self.fusion == "softmax" else weights)).sum(1, keepdim=True)

    # --- alignment ----------------------------------------------------------------------------------------------------

    def align(self, frames: Tensor) -> Tensor:
        """Move the neighbours onto the middle frame, tile by tile, as ``alignment`` says.

        Args:
            frames: (B,2N-1,H,W), luma in [0,1].

        Returns:
            The same shape; the middle frame is unchanged.

        Raises:
            DependencyMissing: "flow" needs scikit-image.
        """
        if self.alignment == "none" or self.frames == 1:
            return frames
        padded = self.pad(frames)
        if self.alignment == "network":
            translations = self.localise(padded)
        else:
            found = np.stack([flows(clip) for clip in frames.detach().float().cpu().numpy()])
            translations = self.rectify(self.pad(torch.from_numpy(found).to(frames)))
        return self.move(padded, translations)[..., : frames.shape[-2], : frames.shape[-1]]

    def pad(self, pictures: Tensor) -> Tensor:
        """Repeat the border of (...,H,W) until its tiles' inner halves cover it."""
        pads = []
        for side, window, step, margin in zip(pictures.shape[-2:], self.window, self.step, self.margin, strict=True):
            pads.append((margin, window - step - margin + -side % step))
        rows, columns = pads
        padded = F.pad(pictures.flatten(0, -4), (*columns, *rows), mode="replicate")
        return padded.reshape(*pictures.shape[:-2], *padded.shape[-2:])

    def tiles(self, padded: Tensor) -> Tensor:
        """(...,H,W), padded, to overlapping tiles (...,rows,columns,window,window): a view."""
        return padded.unfold(-2, self.window[0], self.step[0]).unfold(-2, self.window[1], self.step[1])

    def pairs(self, tiles: Tensor) -> Tensor:
        """Tiles of 2N-1 frames (B,2N-1,rows,columns,h,w), the middle one beside each other: (B,2N-2,rows,columns,2,h,w)."""
        middle = self.frames // 2
        moving = torch.cat((tiles[:, :middle], tiles[:, middle + 1 :]), dim=1)
        return torch.stack((tiles[:, middle : middle + 1].expand_as(moving), moving), dim=4)

    def localise(self, padded: Tensor) -> Tensor:
        """What the localisation network says of padded frames (B,2N-1,H,W): (B,2N-2,rows,columns,2)."""
        tiles, found = self.tiles(padded), []
        for row in range(tiles.shape[2]):  # row by row, for 32 channels take memory
            pairs = self.pairs(tiles[:, :, row : row + 1])
            found.append(self.loc(pairs.flatten(0, 3)).view(*pairs.shape[:4], 2))
        return torch.cat(found, dim=2)

    def rectify(self, padded: Tensor) -> Tensor:
        """Rectified translations of padded flows (B,2N-2,2,H,W): (B,2N-2,rows,columns,2)."""
        return rectified_translation(self.tiles(padded).movedim(2, 4))

    def move(self, padded: Tensor, translations: Tensor) -> Tensor:
        """Move the neighbours among padded frames (B,2N-1,H,W) by (B,2N-2,rows,columns,2); the margin is gone after that."""
        (height, width), (above, left), middle = self.step, self.margin, self.frames // 2
        tiles = self.tiles(padded)
        moving = torch.cat((tiles[:, :middle], tiles[:, middle + 1 :]), dim=1)
        inner = slice(above, above + height), slice(left, left + width)
        moved = translate(moving.reshape(-1, 1, *self.window), translations.flatten(0, 3), *inner)
        moved = moved.view(*moving.shape[:4], height, width)
        still = tiles[:, middle : middle + 1, :, :, inner[0], inner[1]]
        joined = torch.cat((moved[:, :middle], still, moved[:, middle:]), dim=1).transpose(3, 4)
        return joined.reshape(*joined.shape[:2], joined.shape[2] * height, -1)


# --- checkpoints ------------------------------------------------------------------------------------------------------


class TemporalAdaptiveFormat:
    """State dicts with this module's own names; there is no official code with others."""

    name = "temporal-adaptive"
    description = "branches.*, temporal_modulation.* and, where there is an alignment network, loc.*"

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The full configuration; None if the state dict is of another architecture.

        Raises:
            FormatError: it is this architecture's, but incomplete or modified.
        """
        first, last = "branches.0.conv1.weight", "temporal_modulation.conv3.weight"
        if not {first, last} <= state.keys():
            return None
        layers = [state.get(f"branches.0.conv{index}.weight") for index in (1, 2, 3)]
        if any(weight is None or weight.ndim != 4 for weight in layers):
            raise FormatError("this looks like a temporal-adaptive checkpoint, but branch 0 is incomplete or malformed")
        config: dict[str, Any] = {
            "scale": round(state["branches.0.conv3.weight"].shape[0] ** 0.5),
            "branches": len({key.split(".")[1] for key in state if key.startswith("branches.")}),
            "filters": tuple(state[f"branches.0.conv{i}.weight"].shape[0] for i in (1, 2)),
            "fusion": "raw",
            "alignment": "none",
            "window": (60, 60),
        }
        if "loc.fc1.weight" in state:
            cells = state["loc.fc1.weight"].shape[-1] // 32
            rows = max((rows for rows in range(1, int(cells**0.5) + 1) if cells % rows == 0), default=1)
            config |= {"alignment": "network", "window": (4 * rows, 4 * max(cells // rows, 1))}
        check_tensors(state, lambda: TemporalAdaptiveSR(**config), "the temporal-adaptive network")
        return config

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """The tensors as they are."""
        return dict(state)

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What the tensors cannot tell, with what was assumed."""
        height, width = config["window"]
        notes = [
            "fusion: the tensors do not tell whether weights go through a softmax; 'raw' is assumed, as in the paper"
        ]
        if config["alignment"] == "network":
            notes.append(f"window: only its area in cells of 4x4 pixels is known; {height}x{width} is assumed")
        else:
            notes += [
                "alignment: there is no alignment network; 'none' is assumed, 'flow' is the other possibility",
                f"window: it matters for alignment by flow only; {height}x{width} is assumed",
            ]
        return tuple(notes)
