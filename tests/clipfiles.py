"""Clips, pictures and tables in files, as people have them, and tasks whose columns they are. PYTEST_DONT_REWRITE: no assertions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image as Picture

from stzoo import media
from stzoo.fields import Image, Number, Video
from stzoo.requirements import Requirements
from stzoo.spec import Task

CLIPS = Task("clips", inputs=(Video("video"),), outputs=(Video("video"),))
PAIRS = Task("pairs", inputs=(Image("image"),), outputs=(Image("mask"),))
LABELS = Task("labels", inputs=(Image("image"),), outputs=(Number("label", integer=True),))
GREY = Requirements(frames_in=4, channels=1, minimum=8)


def clip(frames: int = 12, seed: int = 0, height: int = 16, width: int = 24) -> np.ndarray:
    """Frames (T, 1, H, W) uint8: smooth, so that codecs keep them, and frame t is brighter than frame t - 1."""
    ramp = np.linspace(0, 60, width)[None, None, None, :] + np.arange(frames)[:, None, None, None] * 5 + seed
    return np.broadcast_to(ramp, (frames, 1, height, width)).astype(np.uint8)


def store(path: Path, frames: np.ndarray | None = None) -> Path:
    """Write a clip as its ending says; without one as a folder of frames."""
    frames = clip() if frames is None else frames
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix:
        media.write_video(frames / np.float32(255), path) if path.suffix in (".mp4", ".avi", ".gif", ".mkv") else (
            np.save(path, frames) if path.suffix == ".npy" else np.savez_compressed(path, video=frames)
        )
    else:
        path.mkdir()
        for number, frame in enumerate(frames):
            Picture.fromarray(frame[0]).save(path / f"{number}.png")
    return path


def picture(path: Path, value: int = 100, size: tuple[int, int] = (24, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.new("L", size, value).save(path)
    return path


def parquet(path: Path, column: str, values: list[Any], feature: Any = None, **others: list[Any]) -> Path:
    """Write a parquet file with one column, and others of plain values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    features = datasets.Features({column: feature, **{name: datasets.Value("int64") for name in others}})
    datasets.Dataset.from_dict({column: values, **others}, features=features if feature else None).to_parquet(str(path))
    return path
