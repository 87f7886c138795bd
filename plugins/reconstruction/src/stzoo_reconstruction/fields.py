"""What goes into the two tasks: cameras, and photographs with their cameras."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from stzoo.errors import InputError, MediaError
from stzoo.fields import Field, Scene

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image as PILImage

    from stzoo.media.geometry import Geometry
    from stzoo.requirements import Requirements
    from stzoo_reconstruction.cameras import Cameras
    from stzoo_reconstruction.captures import Capture
    from stzoo_reconstruction.inputs import Photographs


@dataclass(frozen=True)
class CameraPath(Field):
    """One or several cameras: :class:`stzoo_reconstruction.cameras.Cameras`, whose array is (V, 24).

    Read from such cameras; an array (V, 24) or (24,); a mapping ``{"pose", "fl", "c", "size"}`` (OpenGL axes) or
    ``{"pose", "K", "size"}`` (OpenCV axes), where poses (V, 4, 4) go from the camera to the world; a ``transforms.json``, a
    ``camera_path.json`` of nerfstudio's viewer, an npz file with such names, an npy file (V, 24); or any capture, whose
    cameras are taken.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".json", ".npy")
    reads: ClassVar[tuple[str, ...]] = (".json", ".npz", ".npy")
    ui: ClassVar[str] = "stzoo_reconstruction.ui:CameraWidget"

    def read(self, value: Any, requirements: Requirements, **options: Any) -> Cameras:
        from stzoo_reconstruction import inputs

        return inputs.read_cameras(value, self.name)

    def sample(self, requirements: Requirements) -> Cameras:
        from stzoo_reconstruction.cameras import Cameras, standard_home

        height, width = (requirements.native_size or (64, 64))[-2:]
        return Cameras.from_array(standard_home(height, width)[:24])

    def preview(self, value: Cameras) -> PILImage:
        from stzoo_reconstruction.drawing import cameras_drawn

        return cameras_drawn(value)

    def numbers(self, value: Cameras) -> np.ndarray:
        import numpy as np

        numbers: np.ndarray = np.nan_to_num(value.array.ravel(), posinf=0.0)
        return numbers

    def write(self, value: Cameras, path: Path, **options: Any) -> None:
        """A ``transforms.json`` without pictures (OpenGL axes, numbers of each camera), or (V, 24) as npy."""
        import numpy as np

        from stzoo.files import atomic_path
        from stzoo_reconstruction.transforms import transforms_text

        with atomic_path(path) as temporary:
            if path.suffix.lower() == ".npy":
                np.save(temporary, value.array)
            elif path.suffix.lower() == ".json":
                temporary.write_text(transforms_text(value), encoding="utf-8")
            else:
                raise MediaError(f"{self.name}: {path.name} cannot be written", f"Endings: {', '.join(self.suffixes)}")


@dataclass(frozen=True)
class Views(Field):
    """Photographs with their cameras: a :class:`stzoo_reconstruction.captures.Capture`.

    Read from a capture in any layout of :func:`stzoo_reconstruction.captures.reader`: its folder, a zip file of one, its
    ``transforms.json``, a list of all its files; or a list of (picture, camera) pairs, cameras as :class:`CameraPath` reads
    them. Pictures without anything about cameras become :class:`stzoo_reconstruction.inputs.Photographs`.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".zip",)
    reads: ClassVar[tuple[str, ...]] = (".zip", ".json", ".npz")
    ui: ClassVar[str] = "stzoo_reconstruction.ui:ViewsWidget"

    def read(self, value: Any, requirements: Requirements, **options: Any) -> Capture | Photographs:
        from stzoo_reconstruction import inputs

        if value is None or (isinstance(value, list | tuple) and not value):
            raise InputError(f"{self.name}: there are no photographs", "Give a folder, a zip file or pictures")
        return inputs.read_views(value, self.name)

    def sample(self, requirements: Requirements) -> Capture:
        from stzoo_reconstruction import inputs

        return inputs.sample_capture(6, 20)

    def preview(self, value: Capture) -> PILImage:
        from stzoo_reconstruction.drawing import contact_sheet

        return contact_sheet(value)

    def numbers(self, value: Capture) -> np.ndarray:
        import numpy as np

        numbers: np.ndarray = np.nan_to_num(value.cameras.array.ravel(), posinf=0.0)
        return numbers

    def write(self, value: Capture, path: Path, **options: Any) -> None:
        """A zip file with the pictures (png, 8 bits) and a ``transforms.json`` (OpenGL axes) that names them."""
        from stzoo.files import atomic_path
        from stzoo_reconstruction.captures import pack

        with atomic_path(path) as temporary:
            pack(value, temporary)


@dataclass(frozen=True)
class Splats(Scene):
    """A :class:`stzoo.fields.Scene` that can also be written and read as viewers of Gaussians have it
    (:mod:`stzoo_reconstruction.splat_files`); its picture shows Gaussians as they are."""

    suffixes: ClassVar[tuple[str, ...]] = (*Scene.suffixes, ".splat", ".spz", ".ksplat", ".sog")
    reads: ClassVar[tuple[str, ...]] = suffixes
    ui: ClassVar[str] = "stzoo_reconstruction.ui:SplatsWidget"

    def read(self, value: Any, requirements: Requirements, **options: Any) -> Geometry:
        from stzoo.media.decoding import file_of
        from stzoo_reconstruction.splat_files import read_splats

        file = file_of(value, self.name)
        found = read_splats(file, self.name) if file else None
        return super().read(value, requirements, **options) if found is None else found

    def preview(self, value: Any) -> PILImage:
        from stzoo.media import to_pil
        from stzoo_reconstruction.pipeline import looked_at

        picture = looked_at(value, self.up)
        return super().preview(value) if picture is None else to_pil(picture)

    def write(self, value: Any, path: Path, **options: Any) -> None:
        from stzoo.media.geometry import as_geometry
        from stzoo_reconstruction.splat_files import kind_of, write_splats

        if kind_of(path):
            write_splats(as_geometry(value), path)
        else:
            super().write(value, path, **options)
