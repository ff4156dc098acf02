"""Projection in numba, forward: Gaussians in space become ellipses with a colour on B screens.

An ellipse is stored as its completed square. With (dx, dy) = mean - pixel,

    sigma = (a (dx + s dy)^2 + q dy^2) / 2,      a = 1 / (xx - xy^2 / yy),   s = -xy / yy,   q = 1 / yy

for the screen covariance (xx, xy, yy). Unlike the usual inverse covariance, (a, s, q) lose no digits for needles,
sigma is never negative, and the pixels of a row above a threshold are an interval with a closed form.

The screen covariance is U U', U = P A: `axes` A (3 3) are the Gaussian's axes in the world, its rotation times its
scales, and the rows of P are k_i (R_i - r_i R_z), with R the camera's rotation, k = focal / depth and r the slope x / z
held within the picture's margin. Everything is computed in double precision and stored in single. One task is one
Gaussian in all views. A cached kernel is not rebuilt when only a file it imports from has changed (a limit of numba):
after an edit in `harmonics`, touch this file.
"""

from math import ceil, exp, isfinite, log, sqrt
from typing import no_type_check

import numpy as np
from numba import njit

from splatdream.render import BLUR, FAR, MARGIN, MAX_EXTENT, MIN_ALPHA, MIN_QUAT_NORM, NEAR, harmonics
from splatdream.splats import SH_C0

ROW = 8
"""Numbers per Gaussian and view: the ellipse's a, s, q and opacity, then the channels depth, red, green, blue."""

_band1, _band2, _band3 = njit(harmonics.band1), njit(harmonics.band2), njit(harmonics.band3)


@njit
@no_type_check
def rotate(quat, matrix):
    """Fills the rotation of a wxyz quaternion; returns one over its length, 0 where it has no direction."""
    w, x, y, z = float(quat[0]), float(quat[1]), float(quat[2]), float(quat[3])
    norm = sqrt(w * w + x * x + y * y + z * z)
    if not norm > MIN_QUAT_NORM:
        return 0.0
    w, x, y, z = w / norm, x / norm, y / norm, z / norm
    matrix[0, 0], matrix[0, 1], matrix[0, 2] = 1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)
    matrix[1, 0], matrix[1, 1], matrix[1, 2] = 2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)
    matrix[2, 0], matrix[2, 1], matrix[2, 2] = 2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)
    return 1 / norm


@njit
@no_type_check
def scale_columns(matrix, log_scales):
    for j in range(3):
        size = exp(float(log_scales[j]))
        for i in range(3):
            matrix[i, j] *= size


@njit
@no_type_check
def to_camera(view, mean):
    """Camera coordinates of a point; `view` is a row of `cpu.view_table`."""
    mx, my, mz = float(mean[0]), float(mean[1]), float(mean[2])
    x = view[0] * mx + view[1] * my + view[2] * mz + view[3]
    y = view[4] * mx + view[5] * my + view[6] * mz + view[7]
    z = view[8] * mx + view[9] * my + view[10] * mz + view[11]
    return x, y, z


@njit
@no_type_check
def hold(slope, focal, centre, size):
    """The slope x / z, kept within the picture and its margin (gsplat's clamp of the EWA derivative)."""
    margin = MARGIN * 0.5 * size / focal
    return min(max(slope, -centre / focal - margin), (size - centre) / focal + margin)


@njit
@no_type_check
def spread(view, axes, z, rx, ry, matrix):
    """Fills U (2 3), whose U U' is the screen covariance before the blur."""
    kx, ky = view[12] / z, view[13] / z
    px0, px1, px2 = kx * (view[0] - rx * view[8]), kx * (view[1] - rx * view[9]), kx * (view[2] - rx * view[10])
    py0, py1, py2 = ky * (view[4] - ry * view[8]), ky * (view[5] - ry * view[9]), ky * (view[6] - ry * view[10])
    for j in range(3):
        matrix[0, j] = px0 * axes[0, j] + px1 * axes[1, j] + px2 * axes[2, j]
        matrix[1, j] = py0 * axes[0, j] + py1 * axes[1, j] + py2 * axes[2, j]


@njit
@no_type_check
def covariance(u):
    """Screen covariance xx, xy, yy without the blur, and its determinant |u_x x u_y|^2 (exact for needles)."""
    xx = u[0, 0] * u[0, 0] + u[0, 1] * u[0, 1] + u[0, 2] * u[0, 2]
    xy = u[0, 0] * u[1, 0] + u[0, 1] * u[1, 1] + u[0, 2] * u[1, 2]
    yy = u[1, 0] * u[1, 0] + u[1, 1] * u[1, 1] + u[1, 2] * u[1, 2]
    c0 = u[0, 1] * u[1, 2] - u[0, 2] * u[1, 1]
    c1 = u[0, 2] * u[1, 0] - u[0, 0] * u[1, 2]
    c2 = u[0, 0] * u[1, 1] - u[0, 1] * u[1, 0]
    return xx, xy, yy, c0 * c0 + c1 * c1 + c2 * c2


@njit
@no_type_check
def direction(view, mean):
    """The unit vector from the camera to a point, and one over the distance."""
    x, y, z = mean[0] - view[16], mean[1] - view[17], mean[2] - view[18]
    inverse = 1 / sqrt(x * x + y * y + z * z)
    return x * inverse, y * inverse, z * inverse, inverse


@njit
@no_type_check
def fill_bases(count, x, y, z, bases):
    """Fills the `count` (0, 3, 8 or 15) spherical harmonics beyond the constant one."""
    if count >= 3:
        bases[0], bases[1], bases[2] = _band1(x, y, z)
    if count >= 8:
        bases[3], bases[4], bases[5], bases[6], bases[7] = _band2(x, y, z)
    if count >= 15:
        bases[8], bases[9], bases[10], bases[11], bases[12], bases[13], bases[14] = _band3(x, y, z)


@njit
@no_type_check
def colour(sh0, shN, bases, channel):
    """One channel before it is clamped at 0."""
    value = 0.5 + SH_C0 * sh0[0, channel]
    for k in range(shN.shape[0]):
        value += bases[k] * shN[k, channel]
    return value


@njit
@no_type_check
def put_ellipse(view, size, mean, u, opacity, antialiased, mean2d, row, radius):
    """Writes the ellipse and its extent if it is seen; else returns False and leaves zeros."""
    x, y, z = mean
    xx, xy, yy, sharp = covariance(u)
    determinant = sharp + BLUR * (xx + yy) + BLUR * BLUR
    if not (determinant > 0 and isfinite(determinant)):
        return False
    if antialiased:
        opacity *= sqrt(sharp / determinant)
    if opacity < MIN_ALPHA:
        return False
    reach = min(MAX_EXTENT, sqrt(2 * log(opacity / MIN_ALPHA)))
    radius_x, radius_y = ceil(reach * sqrt(xx + BLUR)), ceil(reach * sqrt(yy + BLUR))
    px, py = view[12] * x / z + view[14], view[13] * y / z + view[15]
    if radius_x <= 0 or px + radius_x <= 0 or px - radius_x >= size[0]:
        return False
    if radius_y <= 0 or py + radius_y <= 0 or py - radius_y >= size[1]:
        return False
    mean2d[0], mean2d[1] = px, py
    row[0], row[1], row[2] = (yy + BLUR) / determinant, -xy / (yy + BLUR), 1 / (yy + BLUR)
    row[3], row[4] = opacity, z
    radius[0], radius[1] = min(radius_x, 2.0**30), min(radius_y, 2.0**30)
    return True


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def project(
    start, stop, means, quats, log_scales, logit_opacities, sh0, shN, views, size, antialiased, means2d, rows, radii
):
    """Fills `means2d` (B N 2), `rows` (B N ROW) and `radii` (B N 2), zero before, of Gaussians start to stop."""
    width, height = size
    axes, u, bases = np.empty((3, 3)), np.empty((2, 3)), np.empty(15)
    for i in range(start, stop):
        if rotate(quats[i], axes) == 0:
            continue
        scale_columns(axes, log_scales[i])
        opacity = 1 / (1 + exp(-float(logit_opacities[i])))
        for b in range(len(views)):
            view, row = views[b], rows[b, i]
            x, y, z = to_camera(view, means[i])
            if z < NEAR or z > FAR:
                continue
            rx, ry = hold(x / z, view[12], view[14], width), hold(y / z, view[13], view[15], height)
            spread(view, axes, z, rx, ry, u)
            if not put_ellipse(view, size, (x, y, z), u, opacity, antialiased, means2d[b, i], row, radii[b, i]):
                continue
            if shN.shape[1] > 0:
                dx, dy, dz, _ = direction(view, means[i])
                fill_bases(shN.shape[1], dx, dy, dz, bases)
            for channel in range(3):
                row[5 + channel] = max(colour(sh0[i], shN[i], bases, channel), 0.0)
