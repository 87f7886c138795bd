"""Posed pinhole cameras: the value that captures, paths and networks share, and paths made from it.

Axes of a camera are OpenGL's, as in Blender, NeRF and nerfstudio: x to the right, y up, the camera looks along -z; a pose
takes them to the axes of the world, which are whatever the capture has. COLMAP and OpenCV count y down and look along +z:
:func:`flipped` goes from either to the other. In pictures x runs right and y down, in pixels; the top-left *corner* is (0, 0),
so that the centre of the first pixel is (0.5, 0.5).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stzoo.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

NUMBERS = 24
"""Of one camera, in the order of :attr:`Cameras.array`."""
HOME = 30
"""Numbers of a home view (:func:`home_of`): a camera, the centre, the direction up."""
FAR = 1e10
"""The far bound in a home view where it is not known: it is part of a model's config, and JSON has no infinity."""
SKEW = 0.02
"""How far a pose's axes may be from unit length and right angles: files are rounded, and half precision is good to 0.001."""


class Rendered(NamedTuple):
    """What a network sees from one camera."""

    image: Tensor
    """(3, H, W), red, green and blue in [0, 1], over the background."""
    depth: Tensor
    """(H, W), along the optical axis, in the world's units; mean of what is seen, 0 where nothing is."""
    opacity: Tensor
    """(H, W) in [0, 1]: how much of the background is hidden."""


@dataclass(frozen=True, eq=False)
class Cameras:
    """V pinhole cameras as float64 arrays. Checked when they are made: raises InputError naming the first that is wrong.

    ``len``, indices and slices count cameras (each gives Cameras again), ``numpy.asarray`` gives :attr:`array`.
    """

    poses: np.ndarray
    """(V, 4, 4), camera to world: columns are right, up, backwards (OpenGL axes) and the position."""
    intrinsics: np.ndarray
    """(V, 4): fx, fy, cx, cy in pixels; the top-left corner of the picture is (0, 0)."""
    sizes: np.ndarray
    """(V, 2): height and width of the picture in pixels."""
    bounds: np.ndarray
    """(V, 2): nearest and farthest depth of the scene in the world's units; 0 and infinity where not known."""

    def __post_init__(self) -> None:
        shapes = {"poses": (4, 4), "intrinsics": (4,), "sizes": (2,), "bounds": (2,)}
        for key, row in shapes.items():
            try:
                array = np.asarray(getattr(self, key), dtype=np.float64)
            except (TypeError, ValueError):
                raise InputError(f"cameras: {key} are no numbers") from None
            if array.shape[1:] != row or array.ndim != len(row) + 1 or len(array) != len(self.poses):
                wanted = ", ".join(map(str, ("V", *row)))
                raise InputError(f"cameras: {key} of shape {array.shape}", f"Give ({wanted})")
            object.__setattr__(self, key, array)
        if not len(self.poses):
            raise InputError("cameras: there are none", "Give at least one")
        self._check_poses()
        self._check_pictures()

    def _check_poses(self) -> None:
        poses = self.poses
        _refuse(~np.isfinite(poses).all((1, 2)), "has a pose that is not finite (NaN or infinite)", "Leave it out")
        _refuse((np.abs(poses[:, 3] - (0, 0, 0, 1)) > 1e-6).any(1), "has a pose whose last row is not 0, 0, 0, 1")
        rotation = poses[:, :3, :3]
        length = np.linalg.norm(rotation, axis=1)
        product = np.einsum("vij,vik->vjk", rotation, rotation)
        skewed = np.abs(product - np.eye(3)).max((1, 2)) > SKEW
        one_scale = skewed & (np.ptp(length, axis=1) < 1e-3 * length[:, 0]) & (length[:, 0] > 0)
        for index in np.flatnonzero(one_scale)[:1]:
            if np.abs(product[index] / length[index, 0] ** 2 - np.eye(3)).max() < SKEW:
                raise InputError(
                    f"cameras: camera {index} has a pose scaled by {length[index, 0]:g}, which is no rotation",
                    "Scale positions only: divide the upper left 3x3 by it",
                )
        _refuse(skewed, "has a pose that is no rotation: its axes are not at right angles, or not of length 1")
        _refuse(
            np.linalg.det(rotation) < 0,
            "has a pose that mirrors (determinant -1), which is no rotation",
            "Was one axis flipped? From OpenCV to OpenGL both y and z change sign",
        )

    def _check_pictures(self) -> None:
        (fx, fy, cx, cy), (height, width) = self.intrinsics.T, self.sizes.T
        near, far = self.bounds.T
        whole = np.isfinite(self.sizes).all(1) & (self.sizes == np.rint(self.sizes)).all(1) & (self.sizes >= 1).all(1)
        _refuse(~whole, "has a size that is not whole and positive", "Height and width are in pixels")
        _refuse(~np.isfinite(self.intrinsics).all(1), "has a focal length or principal point that is not finite")
        _refuse((fx <= 0) | (fy <= 0), "has a focal length that is not positive", "It is in pixels")
        _refuse(
            (fx < width / 100) | (fy < height / 100),
            "has a focal length below a hundredth of its picture",
            "It is in pixels: multiply a focal length in units of the picture by the width",
        )
        outside = (cx < -width) | (cx > 2 * width) | (cy < -height) | (cy > 2 * height)
        _refuse(outside, "has its principal point far outside the picture", "Are intrinsics those of this size?")
        _refuse(np.isnan(self.bounds).any(1) | (near < 0) | (near >= far), "has bounds that are not 0 <= near < far")

    @classmethod
    def of(cls, poses: Any, intrinsics: Any, sizes: Any, bounds: Any = (0.0, np.inf)) -> Cameras:
        """Cameras from poses (V, 4, 4) or (V, 3, 4), and per camera or for all alike: intrinsics, sizes and bounds."""
        poses = np.asarray(poses, dtype=np.float64)
        if poses.ndim == 3 and poses.shape[1:] == (3, 4):
            last = np.broadcast_to((0.0, 0.0, 0.0, 1.0), (len(poses), 1, 4))
            poses = np.concatenate([poses, last], axis=1)
        count = len(poses)
        rest = [np.asarray(item, dtype=np.float64) for item in (intrinsics, sizes, bounds)]
        return cls(poses, *(np.broadcast_to(item, (count, item.shape[-1])).copy() for item in rest))

    @classmethod
    def from_array(cls, array: Any) -> Cameras:
        """The inverse of :attr:`array`: (V, 24) or (24,), an array or a tensor."""
        array = array.detach().cpu().numpy() if hasattr(array, "detach") else array
        try:
            array = np.atleast_2d(np.asarray(array, dtype=np.float64))
        except (TypeError, ValueError):
            raise InputError("cameras are no array of numbers", f"Give (V, {NUMBERS})") from None
        if array.ndim != 2 or array.shape[1] != NUMBERS:
            raise InputError(
                f"cameras of shape {array.shape}",
                f"Give (V, {NUMBERS}): pose row by row, fx, fy, cx, cy, height, width, near, far",
            )
        return cls(array[:, :16].reshape(-1, 4, 4), array[:, 16:20], array[:, 20:22], array[:, 22:])

    @classmethod
    def joined(cls, parts: Sequence[Cameras]) -> Cameras:
        """All cameras of several, in order."""
        return cls.from_array(np.concatenate([part.array for part in parts]))

    @property
    def array(self) -> np.ndarray:
        """(V, 24): 16 numbers of the pose row by row, fx, fy, cx, cy, height, width, near, far."""
        count = len(self.poses)
        return np.concatenate([self.poses.reshape(count, 16), self.intrinsics, self.sizes, self.bounds], axis=1)

    @property
    def shape(self) -> tuple[int, int]:
        return (len(self.poses), NUMBERS)

    def __len__(self) -> int:
        return len(self.poses)

    def __getitem__(self, index: Any) -> Cameras:
        """Some of the cameras; one for a single number."""
        if isinstance(index, int | np.integer):
            index = [int(index)]  # IndexError where there is none
        return Cameras(self.poses[index], self.intrinsics[index], self.sizes[index], self.bounds[index])

    def __iter__(self) -> Iterator[Cameras]:
        return (self[index] for index in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.array.astype(dtype or np.float64)

    @property
    def positions(self) -> np.ndarray:
        """(V, 3), in the world."""
        return self.poses[:, :3, 3]

    @property
    def directions(self) -> np.ndarray:
        """(V, 3), along which each camera looks, in the world; unit length."""
        return -self.poses[:, :3, 2]

    def world_to_camera(self) -> np.ndarray:
        """(V, 4, 4), from the world to OpenCV's axes of each camera: x right, y down, z forwards (gsplat's ``viewmats``)."""
        return np.linalg.inv(flipped(self.poses))

    def matrices(self) -> np.ndarray:
        """(V, 3, 3): the intrinsics as OpenCV and gsplat have them (``K``, ``Ks``)."""
        made = np.zeros((len(self), 3, 3))
        made[:, 0, 0], made[:, 1, 1], made[:, 0, 2], made[:, 1, 2] = self.intrinsics.T
        made[:, 2, 2] = 1
        return made

    def project(self, points: Any) -> tuple[np.ndarray, np.ndarray]:
        """Where points (N, 3) of the world are seen: pixels (V, N, 2), x and y, and depths (V, N) along the optical axis.

        Points at a depth of 0 or less are behind the camera: their pixels mean nothing.
        """
        view = self.world_to_camera()
        local = np.einsum("vij,nj->vni", view[:, :3, :3], np.asarray(points, np.float64)) + view[:, None, :3, 3]
        depth = local[..., 2]
        focal, centre = self.intrinsics[:, None, :2], self.intrinsics[:, None, 2:]
        with np.errstate(divide="ignore", invalid="ignore"):
            return focal * local[..., :2] / depth[..., None] + centre, depth

    def resized(self, scale: float) -> Cameras:
        """The same views with pictures ``scale`` times as large, rounded to whole pixels, never below one."""
        if not np.isfinite(scale) or scale <= 0:
            raise InputError(f"scale={scale:g}", "Give a positive factor")
        return self.fitted(np.maximum(np.rint(self.sizes * scale), 1))

    def fitted(self, sizes: Any) -> Cameras:
        """The same views as pictures of other heights and widths, (V, 2) or one for all; the intrinsics are scaled along."""
        sizes = np.broadcast_to(np.asarray(sizes, dtype=np.float64), self.sizes.shape)
        ratio = sizes / self.sizes
        return Cameras(self.poses, self.intrinsics * np.tile(ratio[:, ::-1], 2), sizes, self.bounds)


def _refuse(wrong: np.ndarray, problem: str, remedy: str = "") -> None:
    found = np.flatnonzero(wrong)
    if len(found):
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise InputError(f"cameras: camera {found[0]}{more} {problem}", remedy)


# --- conventions ------------------------------------------------------------------------------------------------------


def flipped(poses: np.ndarray) -> np.ndarray:
    """Camera-to-world poses (…, 3 or 4, 4) with a camera's y and z turned round: from OpenGL's axes (y up, looking along -z)
    to OpenCV's (y down, looking along +z), and back."""
    return poses * np.array([1.0, -1.0, -1.0, 1.0])


def look_at(position: Any, target: Any, up: Any) -> np.ndarray:
    """The pose (4, 4), camera to world, OpenGL axes, at ``position`` looking at ``target``, with ``up`` upwards in the
    picture; where it looks straight up or down another axis stands in."""
    position, target, up = (np.asarray(item, np.float64) for item in (position, target, up))
    back = _unit(position - target)
    right = np.cross(up, back)
    if np.linalg.norm(right) < 1e-6:
        right = np.cross(np.eye(3)[np.abs(back).argmin()], back)
    right = _unit(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, position], axis=1)
    return pose


def _unit(vector: np.ndarray) -> np.ndarray:
    length = float(np.linalg.norm(vector))
    return vector / length if length else np.array([0.0, 0.0, 1.0])


# --- a home view, and paths from it -----------------------------------------------------------------------------------


def standard_home(height: int = 64, width: int = 64) -> tuple[float, ...]:
    """A home view (30 floats) as in Blender's synthetic scenes: 4 units from the origin, 30 degrees above it, z up,
    a field of view of 39.6 degrees."""
    pose = look_at((4 * np.cos(np.pi / 6), 0, 2), (0, 0, 0), (0, 0, 1))
    focal = 0.5 * width / np.tan(0.5 * 0.6911112)
    camera = Cameras.of(pose[None], (focal, focal, width / 2, height / 2), (height, width), (2.0, 6.0))
    return (*camera.array[0].tolist(), 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)


def home_of(cameras: Cameras) -> tuple[float, ...]:
    """A home view: 24 numbers of a typical camera, 3 of the centre, 3 of the unit vector up, in the axes of the world.

    The centre is the point nearest to all optical axes or, where these are parallel or do not meet within the bounds, one in
    front of the cameras at the middle of the bounds (four times the cameras' spread where these are not known). The typical camera is one
    of those given, at a middle distance and height.
    """
    centre, up = centre_of(cameras), up_of(cameras)
    offsets = cameras.positions - centre
    distance = np.maximum(np.linalg.norm(offsets, axis=1), 1e-9)
    elevation = np.arcsin(np.clip(offsets @ up / distance, -1, 1))
    across = offsets - np.outer(offsets @ up, up)
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-9)
    mean = across.mean(0)
    turn = np.linalg.norm(across - mean, axis=1) * np.linalg.norm(mean)  # does not count where cameras are all round
    cost = np.abs(elevation - np.median(elevation)) + np.abs(np.log(distance / np.median(distance))) + turn
    camera = np.minimum(cameras.array[int(cost.argmin())], FAR)
    return (*camera.tolist(), *centre.tolist(), *up.tolist())


def centre_of(cameras: Cameras) -> np.ndarray:
    """The point (3,) at which the cameras look, in the axes of the world (see :func:`home_of`)."""
    positions, directions = cameras.positions, cameras.directions
    across = np.eye(3) - np.einsum("vi,vj->vij", directions, directions)
    matrix = across.mean(0)
    near, far = np.median(cameras.bounds, axis=0)
    if np.linalg.eigvalsh(matrix)[0] > 1e-4:
        centre: np.ndarray = np.linalg.solve(matrix, np.einsum("vij,vj->i", across, positions) / len(cameras))
        if near < np.median(np.einsum("vi,vi->v", centre - positions, directions)) < far:
            return centre
    spread = float(np.linalg.norm(positions - positions.mean(0), axis=1).max())
    depth = np.sqrt(max(near, 1e-2 * far) * far) if np.isfinite(far) else 4 * (spread or 1.0)
    return positions.mean(0) + depth * _unit(directions.mean(0))


def up_of(cameras: Cameras) -> np.ndarray:
    """The unit vector (3,) that points up in most pictures: across all of the cameras' right axes where these spread out
    (cameras are seldom rolled), otherwise the mean of their up axes."""
    mean = cameras.poses[:, :3, 1].mean(0)
    if np.linalg.norm(mean) < 1e-6:
        return _unit(cameras.poses[0, :3, 1])
    _, values, axes = np.linalg.svd(cameras.poses[:, :3, 0])
    if len(values) == 3 and values[1] > 0.3 * values[0] and values[2] < 0.3 * values[1]:
        return axes[2] if axes[2] @ mean >= 0 else -axes[2]
    return _unit(mean)


def checked_home(home: Sequence[float]) -> tuple[Cameras, np.ndarray, np.ndarray]:
    """Camera, centre (3,) and unit vector up (3,) of a home view; raises InputError. An empty one is
    :func:`standard_home`."""
    values = np.minimum(np.asarray(home if len(home) else standard_home(), dtype=np.float64), FAR)
    if values.shape != (HOME,) or not np.isfinite(values).all():
        raise InputError(f"a home view of shape {values.shape}", f"Give {HOME} numbers: a camera, the centre, up")
    return Cameras.from_array(values[:NUMBERS]), values[24:27], _unit(values[27:])


def orbit(
    home: Sequence[float], frames: int = 1, *, azimuth: float = 0.0, elevation: float = 0.0, zoom: float = 1.0
) -> Cameras:
    """Views from the home view's distance to its centre, turned about it.

    Args:
        home: 30 numbers (:func:`home_of`), or none.
        frames: how many views of one whole turn; 1 is the first alone.
        azimuth: degrees from the home view, counter-clockwise seen from above, of the first view.
        elevation: degrees above the home view; the sum is kept within 89 degrees of the horizontal.
        zoom: by which the focal length is multiplied.
    """
    if frames < 1 or zoom <= 0:
        raise InputError(f"frames={frames}, zoom={zoom:g}", "Both must be positive")
    camera, centre, up = checked_home(home)
    pose = camera.poses[0]
    offset = pose[:3, 3] - centre
    across = np.cross(up, offset)
    right = _unit(across if np.linalg.norm(across) > 1e-6 * np.linalg.norm(offset) else pose[:3, 0])
    height = np.degrees(np.arcsin(np.clip(_unit(offset) @ up, -1, 1)))
    lift = np.clip(height + elevation, -89.0, 89.0) - height if elevation else 0.0
    raised = _turn(right, -np.radians(lift))
    turns = np.radians(azimuth + 360.0 * np.arange(frames) / frames)
    rotations = np.stack([_turn(up, angle) @ raised for angle in turns])
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, :3, :3] = rotations @ pose[:3, :3]
    poses[:, :3, 3] = centre + rotations @ offset
    return Cameras.of(poses, camera.intrinsics[0] * (zoom, zoom, 1, 1), camera.sizes[0], camera.bounds[0])


def _turn(axis: np.ndarray, angle: float) -> np.ndarray:
    """The rotation (3, 3) about a unit vector, counter-clockwise when it points at you (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def interpolated(cameras: Cameras, frames: int) -> Cameras:
    """``frames`` cameras on a path through all given ones, from the first to the last, evenly by their numbers: rotations
    turn at constant speed (slerp), the rest goes straight. All pictures have the size of the first."""
    if frames < 1:
        raise InputError(f"frames={frames}", "Give at least one")
    if len(cameras) == 1:
        return cameras[np.zeros(frames, int)]
    from scipy.spatial.transform import Rotation, Slerp

    cameras = cameras.fitted(cameras.sizes[0])
    knots, times = np.arange(len(cameras)), np.linspace(0, len(cameras) - 1, frames)
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, :3, :3] = Slerp(knots, Rotation.from_matrix(cameras.poses[:, :3, :3]))(times).as_matrix()
    poses[:, :3, 3] = _straight(times, knots, cameras.positions)
    bounds = (cameras.bounds[:, 0].min(), cameras.bounds[:, 1].max())
    return Cameras.of(poses, _straight(times, knots, cameras.intrinsics), cameras.sizes[0], bounds)


def _straight(times: np.ndarray, knots: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.stack([np.interp(times, knots, column) for column in values.T], axis=1)
