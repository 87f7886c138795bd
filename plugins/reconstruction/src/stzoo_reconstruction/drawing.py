"""Small pictures of cameras and photographs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stzoo_reconstruction.cameras import Cameras, centre_of, look_at, up_of

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

    from stzoo_reconstruction.captures import Capture

MOST = 200
"""Cameras that are drawn, evenly chosen."""


def cameras_drawn(cameras: Cameras) -> PILImage:
    """The cameras from obliquely above, each as a pyramid open towards what it sees, from dark to light in their order; a
    black dot where they look."""
    from stzoo.media.colours import coloured
    from stzoo.media.geometry import as_geometry, picture

    cameras = cameras[np.unique(np.linspace(0, len(cameras) - 1, min(len(cameras), MOST)).astype(int))]
    centre, up = centre_of(cameras), up_of(cameras)
    reach = float(np.linalg.norm(cameras.positions - centre, axis=1).mean()) or 1.0
    lines, colours = [], []
    for index, camera in enumerate(cameras):
        (fx, fy, cx, cy), (height, width) = camera.intrinsics[0], camera.sizes[0]
        x, y = (np.array([-cx, width - cx]) / fx, np.array([cy, cy - height]) / fy)
        corners = np.array([[x[0], y[0], -1], [x[1], y[0], -1], [x[1], y[1], -1], [x[0], y[1], -1]])
        corners = camera.positions[0] + 0.18 * reach * corners @ camera.poses[0, :3, :3].T
        steps = np.linspace(0, 1, 60)[:, None]
        ends = [(camera.positions[0], corner) for corner in corners]
        ends += [(corners[side], corners[side - 1]) for side in range(4)]
        made = np.concatenate([one + steps * (two - one) for one, two in ends])
        lines.append(made)
        shade = coloured(np.full((1, 1), index / max(len(cameras) - 1, 1)))[0, 0] / 255
        colours.append(np.tile(shade, (len(made), 1)))
    dot = centre + 0.02 * reach * np.random.default_rng(0).standard_normal((200, 3))
    axes = look_at(up, np.zeros(3), np.eye(3)[np.abs(up).argmin()])[:3, :3]  # columns: right, above, up
    turned = (np.concatenate([*lines, dot]) - centre) @ axes[:, [0, 2, 1]] * (1, 1, -1)
    shades = np.concatenate([*colours, np.zeros((200, 3))])
    return picture(as_geometry({"positions": turned, "colours": shades}), "y")


def contact_sheet(capture: Capture, columns: int = 6, rows: int = 2, side: int = 96) -> PILImage:
    """Some of the photographs, evenly chosen, beside each other."""
    from PIL import Image

    from stzoo.media import to_pil

    chosen = np.unique(np.linspace(0, len(capture) - 1, min(len(capture), columns * rows)).astype(int))
    columns = min(columns, len(chosen))
    sheet = Image.new("RGB", (columns * side, -(-len(chosen) // columns) * side), (255, 255, 255))
    for place, index in enumerate(chosen):
        small = to_pil(capture.image(int(index)))
        scale = (side - 2) / max(small.size)
        small = small.resize((max(1, round(small.width * scale)), max(1, round(small.height * scale))))
        sheet.paste(small, (place % columns * side + 1, place // columns * side + 1))
    return sheet
