"""Compositing in numba, backward: one task is one tile of one view; layout and notation as in `_composite`.

A tile's list is walked from the back: T <- T / (1 - alpha), and with v the gradient of the channel sums,

    dL/dalpha = T (v . channels) - behind / (1 - alpha),   behind = sum over Gaussians behind of weight (v . channels)

where the background counts as the last one behind. What the ellipse needs of h = alpha dL/dalpha are six moments. Each
(Gaussian, tile) pair has a slot of its own for them; `gather` sums a Gaussian's slots in a fixed order.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from splatdream.render._composite import (
    ALPHA_HIGH,
    ALPHA_LOW,
    AREA,
    ONE,
    TINY,
    ZERO,
    X,
    Y,
    add_scaled,
    f32,
    gaussian,
    pixel_run,
    place_pixels,
)
from splatdream.render._tiles import HEAD, TILE

T, LAST, WEIGHT, BEHIND, GLOW, UPSTREAM = 2, 3, 4, 5, 6, 7
"""Rows of a tile's array after X and Y; glow is v . channels, and UPSTREAM begins the rows of v, one per channel."""
MOMENTS = 6
"""Sums over pixels kept per pair, before the channels': h, h u, h u^2, h dy, h u dy, h dy^2 with u = dx + s dy."""

summing = njit(fastmath={"contract", "reassoc"}, error_model="numpy")
"""Sums may be taken in the order that suits vectors: another order than written, but always the same one."""


@summing
@no_type_check
def lift(pixels, i, j, ellipse, number):
    """Moves the transmittance of pixels i to j back before one Gaussian, writes weights, returns the six moments."""
    m0, m1, m2, m3, m4, m5 = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
    for p in range(i, j):
        u, dy, full = gaussian(ellipse, pixels[X, p], pixels[Y, p])
        behind, glow = pixels[BEHIND, p], pixels[GLOW, p]
        alpha = min(ALPHA_HIGH, full)
        alpha = alpha if (alpha >= ALPHA_LOW) & (number <= pixels[LAST, p]) else ZERO
        inverse = ONE / (ONE - alpha)
        t = pixels[T, p] * inverse
        weight = alpha * t
        pixels[T, p], pixels[WEIGHT, p], pixels[BEHIND, p] = t, weight, behind + weight * glow
        h = alpha * (t * glow - behind * inverse)
        # Where alpha is held at its limit, the ellipse does not matter.
        h = h if full <= ALPHA_HIGH else ZERO
        hu, hy = h * u, h * dy
        m0 += h
        m1 += hu
        m2 += hu * u
        m3 += hy
        m4 += hu * dy
        m5 += hy * dy
    return m0, m1, m2, m3, m4, m5


@summing
@no_type_check
def inner(pixels, i, j, first, second):
    total = ZERO
    for p in range(i, j):
        total += pixels[first, p] * pixels[second, p]
    return total


@njit
@no_type_check
def load(b, top, left, rows, wide, backgrounds, end, alphas, depths, v_features, v_alphas, v_depths, pixels):
    """Fills a tile's rows with what the forward pass left and with the gradients that arrive."""
    pixels[T:] = ZERO
    pixels[T], pixels[LAST] = end[0], end[1]
    for y in range(rows):
        for x in range(wide):
            p, py, px = y * TILE + x, top + y, left + x
            v_depth = v_depths[b, py, px, 0] / max(alphas[b, py, px, 0], TINY)
            pixels[UPSTREAM, p] = v_depth
            # What transmittance itself is worth: -d/d alpha, and the background that shines through.
            worth = v_depth * depths[b, py, px, 0] - v_alphas[b, py, px, 0]
            for k in range(backgrounds.shape[1]):
                v = v_features[b, py, px, k]
                pixels[UPSTREAM + 1 + k, p] = v
                worth += v * backgrounds[b, k]
            pixels[BEHIND, p] = end[0, p] * worth


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def composite_backward(
    start, stop, packed, pairs, begins, size, backgrounds, ends, alphas, depths,
    v_features, v_alphas, v_depths, v_slots, v_backgrounds,
):  # fmt: skip
    """Fills the slots (P MOMENTS+channels) of pairs in tiles start to stop, and `v_backgrounds` (B tiles D)."""
    tiles = begins.shape[1] - 1
    channels = packed.shape[2] - HEAD
    pixels = np.empty((UPSTREAM + channels, AREA), f32)
    live, latest = np.empty(TILE, np.bool_), np.empty(TILE, f32)
    for task in range(start, stop):
        b, tile = task // tiles, task % tiles
        left, top, wide, rows = place_pixels(tile, size, pixels)
        end = ends[b, tile]
        load(b, top, left, rows, wide, backgrounds, end, alphas, depths, v_features, v_alphas, v_depths, pixels)
        for k in range(channels - 1):
            v_backgrounds[b, tile, k] = inner(pixels, np.uint64(0), np.uint64(AREA), T, UPSTREAM + 1 + k)
        for y in range(TILE):
            latest[y] = end[1, y * TILE : (y + 1) * TILE].max()
        for place in range(begins[b, tile + 1] - 1, begins[b, tile] - 1, -1):
            splat, slot, number = packed[b, pairs[place, 0]], v_slots[pairs[place, 1]], place - begins[b, tile] + 1
            for y in range(TILE):
                live[y] = number <= latest[y]
            ellipse = (splat[0], splat[1], splat[2], splat[3], splat[4], splat[5])
            i, j = pixel_run(splat, top, live)
            for p in range(i, j):
                pixels[GLOW, p] = ZERO
            for k in range(channels):
                add_scaled(pixels, i, j, GLOW, splat[HEAD + k], UPSTREAM + k)
            slot[0], slot[1], slot[2], slot[3], slot[4], slot[5] = lift(pixels, i, j, ellipse, f32(number))
            for k in range(channels):
                slot[MOMENTS + k] = inner(pixels, i, j, WEIGHT, UPSTREAM + k)


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def gather(start, stop, order, seen, slots, begins, packed, v_slots, v_means2d, v_rows, v_extras):
    """Sums each Gaussian's slots of views start to stop and turns moments into gradients of the ellipse."""
    sums = np.empty(v_slots.shape[1])
    for b in range(start, stop):
        for rank in range(seen[b]):
            sums[:] = 0.0
            for slot in range(begins[b, 0] + slots[b, rank], begins[b, 0] + slots[b, rank + 1]):
                for k in range(len(sums)):
                    sums[k] += v_slots[slot, k]
            i, splat = order[b, rank], packed[b, rank]
            a, s, q, opacity = splat[2], splat[3], splat[4], splat[5]
            v_means2d[b, i, 0] = -a * sums[1]
            v_means2d[b, i, 1] = -a * s * sums[1] - q * sums[3]
            v_rows[b, i, 0], v_rows[b, i, 1] = -0.5 * sums[2], -a * sums[4]
            v_rows[b, i, 2], v_rows[b, i, 3] = -0.5 * sums[5], sums[0] / opacity
            for k in range(4):
                v_rows[b, i, 4 + k] = sums[MOMENTS + k]
            for k in range(v_extras.shape[2]):
                v_extras[b, i, k] = sums[MOMENTS + 4 + k]
