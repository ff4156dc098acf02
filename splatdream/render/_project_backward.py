"""Projection in numba, backward: gradients of ellipses and colours on B screens become gradients of the parameters.

Notation as in `_project`; `v_x` is the gradient of the loss with respect to x. One task is one Gaussian: it sums over
its views in order, in double precision.
"""

from math import exp
from typing import no_type_check

import numpy as np
from numba import njit

from splatdream.render import BLUR, harmonics
from splatdream.render._project import (
    colour,
    covariance,
    direction,
    fill_bases,
    hold,
    rotate,
    scale_columns,
    spread,
    to_camera,
)
from splatdream.splats import SH_C0

_band1, _band2 = njit(harmonics.band1_gradient), njit(harmonics.band2_gradient)
_band3 = njit(harmonics.band3_gradient)


@njit
@no_type_check
def covariance_backward(row, v_row, opacity, u, antialiased):
    """The gradient of xx, xy, yy (the pair of off-diagonal entries as one number) and of the stored opacity."""
    a, s, q, shown = float(row[0]), float(row[1]), float(row[2]), float(row[3])
    v_a, v_s, v_q, v_shown = float(v_row[0]), float(v_row[1]), float(v_row[2]), float(v_row[3])
    v_xx = -a * a * v_a
    v_xy = -2 * a * a * s * v_a - q * v_s
    v_yy = -a * a * s * s * v_a - s * q * v_s - q * q * v_q
    if not antialiased:
        return v_xx, v_xy, v_yy, v_shown
    # shown = opacity sqrt(sharp / determinant), both functions of the covariance.
    xx, xy, yy, sharp = covariance(u)
    determinant = sharp + BLUR * (xx + yy) + BLUR * BLUR
    v_sharp = 0.5 * v_shown * shown / sharp
    v_determinant = -0.5 * v_shown * shown / determinant
    v_xx += v_sharp * yy + v_determinant * (yy + BLUR)
    v_yy += v_sharp * xx + v_determinant * (xx + BLUR)
    v_xy -= 2 * xy * (v_sharp + v_determinant)
    return v_xx, v_xy, v_yy, v_shown * shown / opacity


@njit
@no_type_check
def slope_backward(focal, k, slope, held, z, v_k, v_held, v_pixel):
    """The gradient of (x, z) through k = focal / z, pixel = focal x / z + centre and the held slope."""
    v_slope = focal * v_pixel
    if held == slope:
        v_slope += v_held
    return v_slope / z, -(v_k * k + v_slope * slope) / z


@njit
@no_type_check
def spread_backward(view, axes, z, slopes, u, v_cov, v_mean2d, v_axes, v_point):
    """Adds to the gradient of the axes (3 3) and of the camera-space point (3)."""
    v_xx, v_xy, v_yy = v_cov
    for i in range(2):
        k = view[12 + i] / z
        slope, held = slopes[i]
        v_k, v_held = 0.0, 0.0
        for m in range(3):
            ray = view[4 * i + m] - held * view[8 + m]
            v_p = 0.0
            for j in range(3):
                own, other = (v_xx, 1) if i == 0 else (v_yy, 0)
                v_u = 2 * own * u[i, j] + v_xy * u[other, j]
                v_axes[m, j] += k * ray * v_u
                v_p += axes[m, j] * v_u
            v_k += v_p * ray
            v_held -= v_p * k * view[8 + m]
        v_x, v_z = slope_backward(view[12 + i], k, slope, held, z, v_k, v_held, float(v_mean2d[i]))
        v_point[i] = v_x
        v_point[2] += v_z


@njit
@no_type_check
def rotation_backward(quat, inverse, axes, v_axes, v_quat, v_log_scales):
    """Writes the gradients of quaternion and log scales from the axes'; consumes `v_axes`."""
    for j in range(3):
        total = 0.0
        for i in range(3):
            total += v_axes[i, j] * axes[i, j]
        v_log_scales[j] = total
    w, x, y, z = quat[0] * inverse, quat[1] * inverse, quat[2] * inverse, quat[3] * inverse
    v = v_axes
    odd_x, odd_y, odd_z = v[2, 1] - v[1, 2], v[0, 2] - v[2, 0], v[1, 0] - v[0, 1]
    even_x, even_y, even_z = v[1, 2] + v[2, 1], v[0, 2] + v[2, 0], v[0, 1] + v[1, 0]
    v_w = 2 * (x * odd_x + y * odd_y + z * odd_z)
    v_x = 2 * (w * odd_x + y * even_z + z * even_y - 2 * x * (v[1, 1] + v[2, 2]))
    v_y = 2 * (w * odd_y + x * even_z + z * even_x - 2 * y * (v[0, 0] + v[2, 2]))
    v_z = 2 * (w * odd_z + x * even_y + y * even_x - 2 * z * (v[0, 0] + v[1, 1]))
    along = v_w * w + v_x * x + v_y * y + v_z * z
    v_quat[0], v_quat[1] = (v_w - along * w) * inverse, (v_x - along * x) * inverse
    v_quat[2], v_quat[3] = (v_y - along * y) * inverse, (v_z - along * z) * inverse


@njit
@no_type_check
def direction_backward(count, x, y, z, v):
    """The gradient of the viewing direction from that of the `count` harmonics v."""
    gx, gy, gz = 0.0, 0.0, 0.0
    if count >= 3:
        gx, gy, gz = _band1(x, y, z, v[0], v[1], v[2])
    if count >= 8:
        hx, hy, hz = _band2(x, y, z, v[3], v[4], v[5], v[6], v[7])
        gx, gy, gz = gx + hx, gy + hy, gz + hz
    if count >= 15:
        hx, hy, hz = _band3(x, y, z, v[8], v[9], v[10], v[11], v[12], v[13], v[14])
        gx, gy, gz = gx + hx, gy + hy, gz + hz
    return gx, gy, gz


@njit
@no_type_check
def colour_backward(view, mean, sh0, shN, v_colour, bases, v_bases, v_mean, v_sh0, v_shN):
    """Adds to the gradients of the harmonics' coefficients and, through the direction, of the mean."""
    count = shN.shape[0]
    x, y, z, inverse = 0.0, 0.0, 0.0, 0.0
    if count > 0:
        x, y, z, inverse = direction(view, mean)
        fill_bases(count, x, y, z, bases)
        v_bases[:] = 0.0
    for channel in range(3):
        if colour(sh0, shN, bases, channel) < 0:
            continue
        v = float(v_colour[channel])
        v_sh0[channel] += SH_C0 * v
        for k in range(count):
            v_shN[k, channel] += v * bases[k]
            v_bases[k] += v * shN[k, channel]
    if count > 0:
        gx, gy, gz = direction_backward(count, x, y, z, v_bases)
        along = gx * x + gy * y + gz * z
        v_mean[0] += (gx - along * x) * inverse
        v_mean[1] += (gy - along * y) * inverse
        v_mean[2] += (gz - along * z) * inverse


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def project_backward(
    start, stop, means, quats, log_scales, logit_opacities, sh0, shN, views, size, antialiased, rows, radii,
    v_means2d, v_rows, v_means, v_quats, v_log_scales, v_logit_opacities, v_sh0, v_shN,
):  # fmt: skip
    """Fills the six gradients, zero before, of Gaussians start to stop."""
    axes, v_axes, u, v_point, v_mean = np.empty((3, 3)), np.empty((3, 3)), np.empty((2, 3)), np.empty(3), np.empty(3)
    bases, v_bases, v_dc, v_rest = np.empty(15), np.empty(15), np.empty(3), np.empty((shN.shape[1], 3))
    for i in range(start, stop):
        inverse = rotate(quats[i], axes)
        if inverse == 0:
            continue
        scale_columns(axes, log_scales[i])
        opacity = 1 / (1 + exp(-float(logit_opacities[i])))
        v_axes[:], v_mean[:], v_dc[:], v_rest[:], v_opacity = 0.0, 0.0, 0.0, 0.0, 0.0
        for b in range(len(views)):
            if radii[b, i, 0] == 0:
                continue
            view, v_row = views[b], v_rows[b, i]
            x, y, z = to_camera(view, means[i])
            rx, ry = hold(x / z, view[12], view[14], size[0]), hold(y / z, view[13], view[15], size[1])
            spread(view, axes, z, rx, ry, u)
            v_xx, v_xy, v_yy, v_o = covariance_backward(rows[b, i], v_row, opacity, u, antialiased)
            v_opacity += v_o
            v_point[0], v_point[1], v_point[2] = 0.0, 0.0, float(v_row[4])
            slopes = ((x / z, rx), (y / z, ry))
            spread_backward(view, axes, z, slopes, u, (v_xx, v_xy, v_yy), v_means2d[b, i], v_axes, v_point)
            for m in range(3):
                v_mean[m] += v_point[0] * view[m] + v_point[1] * view[4 + m] + v_point[2] * view[8 + m]
            colour_backward(view, means[i], sh0[i], shN[i], v_row[5:8], bases, v_bases, v_mean, v_dc, v_rest)
        v_means[i], v_shN[i], v_sh0[i, 0] = v_mean, v_rest, v_dc
        v_logit_opacities[i] = v_opacity * opacity * (1 - opacity)
        for j in range(3):
            size_j = exp(float(log_scales[i, j]))
            for m in range(3):
                v_axes[m, j] *= size_j
        rotate(quats[i], axes)
        rotation_backward(quats[i], inverse, axes, v_axes, v_quats[i], v_log_scales[i])
