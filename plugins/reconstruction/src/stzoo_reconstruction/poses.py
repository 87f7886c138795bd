"""What NeRF does with poses: scenes are moved to where its network expects them, and paths are drawn round them.

Facts of LLFF's loader (Mildenhall et al. 2019) and of Blender's, as the official NeRF uses them. Poses (V, 4, 4) are camera to
world with OpenGL axes (:mod:`stzoo_reconstruction.cameras`); float64.
"""

from __future__ import annotations

import numpy as np

from stzoo_reconstruction.cameras import look_at


def average_pose(poses: np.ndarray) -> np.ndarray:
    """The pose (4, 4) at the mean position, with the mean direction, and up as near to the mean one as can be."""
    position = poses[:, :3, 3].mean(0)
    return look_at(position, position - poses[:, :3, 2].mean(0), poses[:, :3, 1].sum(0))


def recentring(poses: np.ndarray) -> np.ndarray:
    """The motion (4, 4) of the world after which the average camera is at the origin and looks along -z, y being up."""
    return np.linalg.inv(average_pose(poses))


def spherifying(poses: np.ndarray) -> np.ndarray:
    """The similarity (4, 4) of the world after which all cameras look, as nearly as can be, at the origin, are at a distance
    of 1 (root of the mean square), and on average above it, z being up: for captures from all around."""
    positions, axes = poses[:, :3, 3], poses[:, :3, 2]
    across = np.eye(3) - axes[:, :, None] * axes[:, None]
    centre = np.linalg.solve((across @ across).mean(0), np.einsum("vij,vj->vi", across, positions).mean(0))
    motion = np.linalg.inv(look_at(centre, 2 * centre - positions.mean(0), (0.1, 0.2, 0.3)))
    return np.diag([*[1 / np.sqrt(np.square(positions - centre).sum(1).mean())] * 3, 1.0]) @ motion


def moved(poses: np.ndarray, similarity: np.ndarray) -> np.ndarray:
    """Poses after a similarity (4, 4) of the world; its scale changes positions alone."""
    found: np.ndarray = similarity @ poses
    found[..., :3, :3] /= np.cbrt(np.linalg.det(similarity[:3, :3]))
    return found


def spiral_path(poses: np.ndarray, focus: float, frames: int, *, turns: int = 2, rate: float = 0.5) -> np.ndarray:
    """Poses (frames, 4, 4) on LLFF's spiral about the average pose, all looking at the point ``focus`` units before it.

    Its radii are those within which nine tenths of the cameras are, axis by axis; on the third axis it swings ``rate`` times
    as often as it turns.
    """
    radii = np.percentile(np.abs(poses[:, :3, 3]), 90, axis=0)
    middle, up = average_pose(poses), poses[:, :3, 1].sum(0)
    target = (middle @ [0, 0, -focus, 1])[:3]
    made = []
    for angle in np.linspace(0, 2 * np.pi * turns, frames + 1)[:-1]:
        step = np.array([np.cos(angle), -np.sin(angle), -np.sin(rate * angle)]) * radii
        position = (middle @ [*step, 1])[:3]
        made.append(look_at(position, target, up))
    return np.stack(made)


def circle_path(poses: np.ndarray, frames: int) -> np.ndarray:
    """Poses (frames, 4, 4) on a circle about the z axis through spherified cameras, looking at the origin, z being up; as in the
    official code the last is the first again."""
    positions = poses[:, :3, 3]
    height = positions[:, 2].mean()
    radius = np.sqrt(np.square(positions).sum(1).mean() - height**2)
    angles = np.linspace(0, 2 * np.pi, frames)
    return np.stack([look_at((radius * np.cos(a), radius * np.sin(a), height), (0, 0, 0), (0, 0, 1)) for a in angles])


def spherical_pose(azimuth: float, elevation: float, radius: float) -> np.ndarray:
    """The pose (4, 4) on a sphere about the origin of Blender's synthetic scenes, looking at it, z being up.

    Degrees. The official code's ``pose_spherical``: elevations are negative above the ground, and azimuth 0 is at -y.
    """
    phi, theta = np.radians([elevation, azimuth])
    tilt, turn, shift = np.eye(4), np.eye(4), np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(phi), -np.sin(phi)], [np.sin(phi), np.cos(phi)]]
    turn[::2, ::2][:2, :2] = [[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]]
    shift[2, 3] = radius
    swap = np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    return swap @ turn @ tilt @ shift
