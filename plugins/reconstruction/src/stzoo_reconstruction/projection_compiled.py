"""What :func:`stzoo_reconstruction.projection.project` does, in float32 on a CPU: compiled, with the gradients written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.autograd.function import once_differentiable

from stzoo.media.geometry import BAND
from stzoo_reconstruction import spherical
from stzoo_reconstruction.compiled import compiled
from stzoo_reconstruction.projection import BLUR, COARSE, FAINT, FAR, LARGEST, MARGIN, SIGMAS, TILE, Ellipses, View

f4 = np.float32
C0, C1 = f4(BAND), f4(spherical.C1)
C20, C21, C22 = (f4(value) for value in spherical.C2)
C30, C31, C32, C33, C34 = (f4(value) for value in spherical.C3)
ZERO, HALF, ONE, TWO, THREE, FOUR, SIX, EIGHT = (f4(value) for value in (0, 0.5, 1, 2, 3, 4, 6, 8))
_BLUR, _FAR, _SIGMAS, _TILE, _COARSE = f4(BLUR), f4(FAR), f4(SIGMAS), f4(TILE), f4(COARSE)
_VISIBLE = f4(1 / FAINT)
_LARGEST, _WHOLE = f4(LARGEST), f4(2**30)
_LEAST = f4(1e-20)
_PRECISE = ("contract",)
"""Numbers may be infinite or none here, and decide where is written to."""


@njit(inline="always")
def _basis(x: Any, y: Any, z: Any, degree: int, values: Any) -> None:
    """Spherical harmonics of a unit vector."""
    values[0] = C0
    if degree > 0:
        values[1], values[2], values[3] = -C1 * y, C1 * z, -C1 * x
    if degree > 1:
        xx, yy, zz = x * x, y * y, z * z
        values[4], values[5], values[7] = C20 * x * y, -C20 * y * z, -C20 * x * z
        values[6], values[8] = C21 * (TWO * zz - xx - yy), C22 * (xx - yy)
    if degree > 2:
        values[9], values[15] = -C30 * y * (THREE * xx - yy), -C30 * x * (xx - THREE * yy)
        values[10], values[14] = C31 * x * y * z, C34 * z * (xx - yy)
        values[11], values[13] = -C32 * y * (FOUR * zz - xx - yy), -C32 * x * (FOUR * zz - xx - yy)
        values[12] = C33 * z * (TWO * zz - THREE * xx - THREE * yy)


@njit(inline="always")
def _basis_slope(x: Any, y: Any, z: Any, degree: int, g: Any) -> Any:
    """The gradient by x, y and z of the sum of the functions, each times its ``g``."""
    gx, gy, gz = ZERO, ZERO, ZERO
    if degree > 0:
        gx, gy, gz = -C1 * g[3], -C1 * g[1], C1 * g[2]
    if degree > 1:
        gx += C20 * (y * g[4] - z * g[7]) - TWO * C21 * x * g[6] + TWO * C22 * x * g[8]
        gy += C20 * (x * g[4] - z * g[5]) - TWO * C21 * y * g[6] - TWO * C22 * y * g[8]
        gz += -C20 * (y * g[5] + x * g[7]) + FOUR * C21 * z * g[6]
    if degree > 2:
        xx, yy, zz, xy, xz, yz = x * x, y * y, z * z, x * y, x * z, y * z
        gx += -SIX * C30 * xy * g[9] + C31 * yz * g[10] + TWO * C32 * xy * g[11] - SIX * C33 * xz * g[12]
        gx += -C32 * (FOUR * zz - THREE * xx - yy) * g[13] + TWO * C34 * xz * g[14] - THREE * C30 * (xx - yy) * g[15]
        gy += -THREE * C30 * (xx - yy) * g[9] + C31 * xz * g[10] - C32 * (FOUR * zz - xx - THREE * yy) * g[11]
        gy += -SIX * C33 * yz * g[12] + TWO * C32 * xy * g[13] - TWO * C34 * yz * g[14] + SIX * C30 * xy * g[15]
        gz += C31 * xy * g[10] - EIGHT * C32 * yz * g[11] + C33 * (SIX * zz - THREE * xx - THREE * yy) * g[12]
        gz += -EIGHT * C32 * xz * g[13] + C34 * (xx - yy) * g[14]
    return gx, gy, gz


@njit(inline="always")
def _rotate(quats: Any, i: int, unit: Any, rotation: Any) -> Any:
    """Fill in the unit quaternion and its matrix; the quaternion's length."""
    length = max(np.sqrt(quats[i, 0] ** 2 + quats[i, 1] ** 2 + quats[i, 2] ** 2 + quats[i, 3] ** 2), f4(1e-12))
    w, x, y, z = quats[i, 0] / length, quats[i, 1] / length, quats[i, 2] / length, quats[i, 3] / length
    unit[0], unit[1], unit[2], unit[3] = w, x, y, z
    rotation[0, 0], rotation[1, 1] = ONE - TWO * (y * y + z * z), ONE - TWO * (x * x + z * z)
    rotation[2, 2] = ONE - TWO * (x * x + y * y)
    rotation[0, 1], rotation[1, 0] = TWO * (x * y - w * z), TWO * (x * y + w * z)
    rotation[0, 2], rotation[2, 0] = TWO * (x * z + w * y), TWO * (x * z - w * y)
    rotation[1, 2], rotation[2, 1] = TWO * (y * z - w * x), TWO * (y * z + w * x)
    return length


@njit(inline="always")
def _edges(turn: Any, rotation: Any, size: Any, x: Any, y: Any, z: Any, lens: Any, axes: Any, edges: Any) -> Any:
    """Fill in the Gaussian's axes in the camera, and their two rows in the picture; the slopes that were used."""
    for row in range(3):
        for column in range(3):
            total = turn[row, 0] * rotation[0, column]
            total += turn[row, 1] * rotation[1, column]
            total += turn[row, 2] * rotation[2, column]
            axes[row, column] = total * size[column]
    slope_x, slope_y = min(max(x / z, lens[4]), lens[5]), min(max(y / z, lens[6]), lens[7])
    for column in range(3):
        edges[0, column] = lens[0] / z * (axes[0, column] - slope_x * axes[2, column])
        edges[1, column] = lens[1] / z * (axes[1, column] - slope_y * axes[2, column])
    return slope_x, slope_y


@njit(inline="always")
def _spread(edges: Any) -> Any:
    """The covariance a, b, c of an ellipse, blurred, its determinant, and that without the blur."""
    a = edges[0, 0] * edges[0, 0] + edges[0, 1] * edges[0, 1] + edges[0, 2] * edges[0, 2]
    b = edges[0, 0] * edges[1, 0] + edges[0, 1] * edges[1, 1] + edges[0, 2] * edges[1, 2]
    c = edges[1, 0] * edges[1, 0] + edges[1, 1] * edges[1, 1] + edges[1, 2] * edges[1, 2]
    one = edges[0, 1] * edges[1, 2] - edges[0, 2] * edges[1, 1]
    two = edges[0, 2] * edges[1, 0] - edges[0, 0] * edges[1, 2]
    three = edges[0, 0] * edges[1, 1] - edges[0, 1] * edges[1, 0]
    area = one * one + two * two + three * three
    return a + _BLUR, b, c + _BLUR, area + _BLUR * (a + c) + _BLUR * _BLUR, area


@njit(inline="always")
def _kept(low: Any, high: Any) -> Any:
    """A number that fits into 32 bits."""
    return np.int32(min(max(low, ZERO), high))


@compiled(*_PRECISE)
def _project(
    means: Any, scales: Any, quats: Any, opacities: Any, sh0: Any, shn: Any, turn: Any, shift: Any, position: Any, lens: Any,
    degree: int, antialiased: bool, cut: bool, width: int, height: int, ellipses: Any, boxes: Any, radii: Any,
) -> None:  # fmt: skip
    """``ellipses`` (N, 10): centre, conic, opacity, colour, depth. ``lens``: see :func:`_lens_of`."""
    rows, columns = f4((height + TILE - 1) // TILE), f4((width + TILE - 1) // TILE)
    unit, rotation, axes, edges = np.empty(4, f4), np.empty((3, 3), f4), np.empty((3, 3), f4), np.empty((2, 3), f4)
    size, basis = np.empty(3, f4), np.empty(16, f4)
    for i in range(len(means)):
        boxes[i, :] = 0
        radii[i, :] = 0
        ellipses[i, :] = ZERO
        mx, my, mz = means[i, 0], means[i, 1], means[i, 2]
        x = turn[0, 0] * mx + turn[0, 1] * my + turn[0, 2] * mz + shift[0]
        y = turn[1, 0] * mx + turn[1, 1] * my + turn[1, 2] * mz + shift[1]
        z = turn[2, 0] * mx + turn[2, 1] * my + turn[2, 2] * mz + shift[2]
        ellipses[i, 9] = z
        if not (z > lens[8] and z < _FAR):
            continue
        reach = max(abs(x), abs(y))
        for axis in range(3):
            size[axis] = np.exp(scales[i, axis])
            reach = max(reach, size[axis])
        if not reach * max(lens[0], lens[1]) < _LARGEST * z:
            continue
        u, v = lens[0] * x / z + lens[2], lens[1] * y / z + lens[3]
        _rotate(quats, i, unit, rotation)
        _edges(turn, rotation, size, x, y, z, lens, axes, edges)
        a, b, c, blurred, area = _spread(edges)
        if not (abs(u) < _FAR and abs(v) < _FAR and blurred < np.inf):  # nor if it is no number
            continue
        opacity = ONE / (ONE + np.exp(-opacities[i]))
        if antialiased:
            opacity *= np.sqrt(max(area / blurred, _LEAST))
        if cut:
            middle = HALF * (a + c)
            reach_x = np.ceil(THREE * np.sqrt(middle + np.sqrt(max(middle * middle - (a * c - b * b), f4(0.1)))))
            reach_y = reach_x
            left, top = np.trunc((u - HALF - reach_x) / _COARSE), np.trunc((v - HALF - reach_y) / _COARSE)
            right = np.trunc((u - HALF + reach_x + (_COARSE - ONE)) / _COARSE)
            bottom = np.trunc((v - HALF + reach_y + (_COARSE - ONE)) / _COARSE)
            ratio = _COARSE / _TILE
            left, top, right, bottom = left * ratio, top * ratio, right * ratio, bottom * ratio
        else:
            reach_x, reach_y = np.ceil(_SIGMAS * np.sqrt(a)), np.ceil(_SIGMAS * np.sqrt(c))
            extent = np.sqrt(max(TWO * np.log(max(opacity * _VISIBLE, _LEAST)), ZERO))
            across, down = extent * np.sqrt(a), extent * np.sqrt(c)
            left, top = np.floor((u - across) / _TILE), np.floor((v - down) / _TILE)
            right, bottom = np.ceil((u + across) / _TILE), np.ceil((v + down) / _TILE)
        if not (u + reach_x > ZERO and u - reach_x < f4(width) and v + reach_y > ZERO and v - reach_y < f4(height)):
            continue
        radii[i, 0], radii[i, 1] = _kept(reach_x, _WHOLE), _kept(reach_y, _WHOLE)
        if opacity >= f4(FAINT):
            boxes[i, 0], boxes[i, 1] = _kept(left, columns), _kept(top, rows)
            boxes[i, 2], boxes[i, 3] = _kept(right, columns), _kept(bottom, rows)
            if boxes[i, 2] <= boxes[i, 0] or boxes[i, 3] <= boxes[i, 1]:
                boxes[i, :] = 0
        ellipses[i, 0], ellipses[i, 1], ellipses[i, 5] = u, v, opacity
        ellipses[i, 2], ellipses[i, 3], ellipses[i, 4] = c / blurred, -b / blurred, a / blurred
        dx, dy, dz = mx - position[0], my - position[1], mz - position[2]
        length = max(np.sqrt(dx * dx + dy * dy + dz * dz), f4(1e-12))
        _basis(dx / length, dy / length, dz / length, degree, basis)
        for channel in range(3):
            total = HALF + basis[0] * sh0[i, 0, channel]
            for k in range(1, (degree + 1) ** 2):
                total += basis[k] * shn[i, k - 1, channel]
            ellipses[i, 6 + channel] = max(total, ZERO)


@compiled(*_PRECISE)
def _gradients(
    means: Any, scales: Any, quats: Any, opacities: Any, sh0: Any, shn: Any, turn: Any, shift: Any, position: Any, lens: Any,
    degree: int, antialiased: bool, ellipses: Any, radii: Any, g: Any,
    to_means: Any, to_scales: Any, to_quats: Any, to_opacities: Any, to_sh0: Any, to_shn: Any,
) -> None:  # fmt: skip
    """``g`` (N, 10): gradients by ``ellipses``. The gradients by the parameters, all zero at first, are filled in."""
    unit, rotation, axes, edges = np.empty(4, f4), np.empty((3, 3), f4), np.empty((3, 3), f4), np.empty((2, 3), f4)
    size, basis, to_basis = np.empty(3, f4), np.empty(16, f4), np.empty(16, f4)
    to_axes, to_rotation = np.empty((3, 3), f4), np.empty((3, 3), f4)
    fx, fy = lens[0], lens[1]
    for i in range(len(means)):
        if radii[i, 0] == 0:
            continue
        mx, my, mz = means[i, 0], means[i, 1], means[i, 2]
        x = turn[0, 0] * mx + turn[0, 1] * my + turn[0, 2] * mz + shift[0]
        y = turn[1, 0] * mx + turn[1, 1] * my + turn[1, 2] * mz + shift[1]
        z = turn[2, 0] * mx + turn[2, 1] * my + turn[2, 2] * mz + shift[2]
        norm = _rotate(quats, i, unit, rotation)
        for axis in range(3):
            size[axis] = np.exp(scales[i, axis])
        slope_x, slope_y = _edges(turn, rotation, size, x, y, z, lens, axes, edges)
        a, b, c, blurred, area = _spread(edges)

        # opacity
        plain = ONE / (ONE + np.exp(-opacities[i]))
        share = np.sqrt(max(area / blurred, _LEAST)) if antialiased else ONE
        to_opacities[i] = g[i, 5] * share * plain * (ONE - plain)

        # covariance: the conic P is its inverse, so dP = -P dC P
        p, q, r = ellipses[i, 2], ellipses[i, 3], ellipses[i, 4]
        gp, gq, gr = g[i, 2], HALF * g[i, 3], g[i, 4]
        one, two = p * gp + q * gq, p * gq + q * gr  # the first row of P G
        three, four = q * gp + r * gq, q * gq + r * gr
        ga, gb, gc = -(one * p + two * q), -TWO * (one * q + two * r), -(three * q + four * r)
        if antialiased and area > _LEAST * blurred:
            factor = HALF * g[i, 5] * plain * share
            ga += factor * ((c - _BLUR) / area - c / blurred)
            gb += factor * TWO * (b / blurred - b / area)
            gc += factor * ((a - _BLUR) / area - a / blurred)

        # the Gaussian's axes in the picture, then in the camera, then its own
        by_depth_x, by_depth_y, by_slope_x, by_slope_y = ZERO, ZERO, ZERO, ZERO
        for column in range(3):
            to_one = TWO * ga * edges[0, column] + gb * edges[1, column]
            to_two = TWO * gc * edges[1, column] + gb * edges[0, column]
            by_depth_x += to_one * edges[0, column]
            by_depth_y += to_two * edges[1, column]
            by_slope_x += to_one * axes[2, column]
            by_slope_y += to_two * axes[2, column]
            to_axes[0, column], to_axes[1, column] = fx / z * to_one, fy / z * to_two
            to_axes[2, column] = -slope_x * to_axes[0, column] - slope_y * to_axes[1, column]
        for column in range(3):
            total = ZERO
            for row in range(3):
                back = turn[0, row] * to_axes[0, column]
                back += turn[1, row] * to_axes[1, column]
                back += turn[2, row] * to_axes[2, column]
                total += back * rotation[row, column]
                to_rotation[row, column] = back * size[column]
            to_scales[i, column] = total * size[column]

        # position in the camera: by the axes' lengths in the picture, by the slopes, and by the centre itself
        gx, gy = g[i, 0] * fx / z, g[i, 1] * fy / z
        gz = g[i, 9] - (by_depth_x + by_depth_y + gx * x + gy * y) / z
        if slope_x == x / z:
            gx -= fx / z * by_slope_x / z
            gz += fx / z * by_slope_x * x / (z * z)
        if slope_y == y / z:
            gy -= fy / z * by_slope_y / z
            gz += fy / z * by_slope_y * y / (z * z)

        # quaternion
        w, qx, qy, qz = unit[0], unit[1], unit[2], unit[3]
        m = to_rotation
        to_unit_w = TWO * (qz * (m[1, 0] - m[0, 1]) + qy * (m[0, 2] - m[2, 0]) + qx * (m[2, 1] - m[1, 2]))
        to_unit_x = TWO * (qy * (m[0, 1] + m[1, 0]) + qz * (m[0, 2] + m[2, 0]) + w * (m[2, 1] - m[1, 2]))
        to_unit_y = TWO * (qx * (m[0, 1] + m[1, 0]) + qz * (m[1, 2] + m[2, 1]) + w * (m[0, 2] - m[2, 0]))
        to_unit_z = TWO * (qx * (m[0, 2] + m[2, 0]) + qy * (m[1, 2] + m[2, 1]) + w * (m[1, 0] - m[0, 1]))
        to_unit_x -= FOUR * qx * (m[1, 1] + m[2, 2])
        to_unit_y -= FOUR * qy * (m[0, 0] + m[2, 2])
        to_unit_z -= FOUR * qz * (m[0, 0] + m[1, 1])
        along = w * to_unit_w + qx * to_unit_x + qy * to_unit_y + qz * to_unit_z
        to_quats[i, 0], to_quats[i, 1] = (to_unit_w - w * along) / norm, (to_unit_x - qx * along) / norm
        to_quats[i, 2], to_quats[i, 3] = (to_unit_y - qy * along) / norm, (to_unit_z - qz * along) / norm

        # colour
        dx, dy, dz = mx - position[0], my - position[1], mz - position[2]
        length = max(np.sqrt(dx * dx + dy * dy + dz * dz), f4(1e-12))
        dx, dy, dz = dx / length, dy / length, dz / length
        _basis(dx, dy, dz, degree, basis)
        to_basis[:] = ZERO
        for channel in range(3):
            wanted = g[i, 6 + channel]
            if ellipses[i, 6 + channel] > ZERO and wanted != ZERO:
                to_sh0[i, 0, channel] = wanted * basis[0]
                for k in range(1, (degree + 1) ** 2):
                    to_shn[i, k - 1, channel] = wanted * basis[k]
                    to_basis[k] += wanted * shn[i, k - 1, channel]
        sx, sy, sz = _basis_slope(dx, dy, dz, degree, to_basis)
        along = dx * sx + dy * sy + dz * sz
        to_means[i, 0] = turn[0, 0] * gx + turn[1, 0] * gy + turn[2, 0] * gz + (sx - dx * along) / length
        to_means[i, 1] = turn[0, 1] * gx + turn[1, 1] * gy + turn[2, 1] * gz + (sy - dy * along) / length
        to_means[i, 2] = turn[0, 2] * gx + turn[1, 2] * gy + turn[2, 2] * gz + (sz - dz * along) / length


def _camera_of(view: View) -> tuple[np.ndarray, ...]:
    """The rotation and translation into the camera, where it is, and its lens: fx, fy, cx, cy, the limits of x / z and of
    y / z, near."""
    matrix = view.world_to_camera.numpy().astype(np.float64)
    turn, shift = matrix[:3, :3], matrix[:3, 3]
    k = view.intrinsics.numpy().astype(np.float64)
    fx, fy, cx, cy = k[0, 0], k[1, 1], k[0, 2], k[1, 2]
    beside, above = view.width * (0.5 * MARGIN), view.height * (0.5 * MARGIN)
    limits = (-cx - beside) / fx, (view.width - cx + beside) / fx, (-cy - above) / fy, (view.height - cy + above) / fy
    lens = np.array((fx, fy, cx, cy, *limits, view.near))
    return tuple(np.ascontiguousarray(item, f4) for item in (turn, shift, -turn.T @ shift, lens))


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, view: View, *parameters: Tensor) -> tuple[Tensor, ...]:
        values = tuple(item.detach().contiguous().numpy() for item in parameters)
        camera = _camera_of(view)
        count = len(values[0])
        ellipses, boxes, radii = (
            np.empty((count, 10), f4),
            np.empty((count, 4), np.int32),
            np.empty((count, 2), np.int32),
        )
        _project(
            *values,
            *camera,
            view.degree,
            view.antialiased,
            view.rules.cut,
            view.width,
            view.height,
            ellipses,
            boxes,
            radii,
        )
        ctx.kept = values, camera, view, ellipses, radii
        made = torch.from_numpy(ellipses)
        whole = torch.from_numpy(boxes), torch.from_numpy(radii)
        ctx.mark_non_differentiable(*whole)
        return made[:, :2], made[:, 2:5], made[:, 5], made[:, 6:9], made[:, 9], *whole

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        values, camera, view, ellipses, radii = ctx.kept
        made = tuple(np.zeros_like(item) for item in values)
        wanted = torch.cat([item.view(len(radii), -1) for item in upstream[:5]], 1).numpy()
        _gradients(*values, *camera, view.degree, view.antialiased, ellipses, radii, wanted, *made)
        return None, *map(torch.from_numpy, made)


def project(
    means: Tensor, scales: Tensor, quats: Tensor, opacities: Tensor, sh0: Tensor, shn: Tensor, view: View
) -> Ellipses:
    """What :func:`stzoo_reconstruction.projection.project` does, in float32 on the CPU."""
    return Ellipses(*_Project.apply(view, means, scales, quats, opacities, sh0, shn))  # type: ignore[no-untyped-call]
