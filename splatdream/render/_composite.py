"""Compositing in numba, forward: one task is one tile of one view.

A tile's pixels lie in rows of one small array, a row per quantity, pixel after pixel. A Gaussian is laid over the run
of pixels between the first and the last pixel row that its ellipse reaches, by loops without branches, which compile
to vector instructions; their exp is a polynomial. Packed Gaussians and pairs are those of
`_tiles`; channels are depth, colour, extras.

    alpha = min(0.999, o exp(-sigma)),   weight = alpha T,   T <- T (1 - alpha)

Nothing is drawn below alpha = 1/255, and a pixel ends, the Gaussian excluded, where T would fall to 1e-4; T < 0 marks
an ended pixel.
"""

from math import ceil, floor
from typing import no_type_check

import numpy as np
from numba import njit

from splatdream.render import MAX_ALPHA, MIN_ALPHA, MIN_TRANSMITTANCE
from splatdream.render._tiles import HEAD, TILE

AREA = TILE * TILE
X, Y, T, LAST, WEIGHT, CHANNELS = 0, 1, 2, 3, 4, 5
"""Rows of a tile's array: pixel centres, transmittance, number of the last Gaussian drawn, weight, sums per channel."""
CHECK_EVERY = 32
"""Gaussians after which a tile looks which of its pixels go on."""

f32 = np.float32
ZERO, ONE, HALF = f32(0), f32(1), f32(0.5)
ALPHA_LOW, ALPHA_HIGH, T_LOW, TINY = f32(MIN_ALPHA), f32(MAX_ALPHA), f32(MIN_TRANSMITTANCE), f32(1e-10)
LOG2E = f32(1.4426950408889634)
POWERS = (
    f32(1.000000071029701), f32(0.6931469491610673), f32(0.2402212175356033),
    f32(0.05550742615995987), f32(0.009675459745571574), f32(0.0013266970388625158),
)  # fmt: skip
"""2^f on [-1/2, 1/2] to a relative 8e-8 (fitted at Chebyshev points)."""

contract = njit(fastmath={"contract"}, error_model="numpy")
"""A product and a sum may become one instruction; nothing else is loosened."""


@contract
@no_type_check
def exp2(z):
    """2^z for z <= 0 in single precision; 2^-30 below that."""
    z = max(z, f32(-30))
    whole = np.int32(z - HALF)
    f = z - f32(whole)
    p0, p1, p2, p3, p4, p5 = POWERS
    power = p0 + f * (p1 + f * (p2 + f * (p3 + f * (p4 + f * p5))))
    return power * np.int32((whole + np.int32(127)) << np.int32(23)).view(np.float32)


@contract
@no_type_check
def gaussian(ellipse, x, y):
    """u = dx + s dy, dy and o exp(-sigma) at a pixel; both passes call it, so both see the same bits."""
    mean_x, mean_y, a, s, q, opacity = ellipse
    dy = mean_y - y
    u = mean_x - x + s * dy
    return u, dy, opacity * exp2(-HALF * LOG2E * (a * u * u + q * dy * dy))


@contract
@no_type_check
def lay(pixels, i, j, ellipse, number):
    """Moves the transmittance of pixels i to j past one Gaussian and writes its weights."""
    for p in range(i, j):
        _, _, full = gaussian(ellipse, pixels[X, p], pixels[Y, p])
        t, last = pixels[T, p], pixels[LAST, p]
        alpha = min(ALPHA_HIGH, full)
        after = t * (ONE - alpha)
        meets = (alpha >= ALPHA_LOW) & (t > ZERO)
        draws = meets & (after > T_LOW)
        pixels[WEIGHT, p] = alpha * t if draws else ZERO
        pixels[T, p] = after if draws else (-t if meets else t)
        pixels[LAST, p] = number if draws else last


@contract
@no_type_check
def add_scaled(pixels, i, j, target, factor, source):
    for p in range(i, j):
        pixels[target, p] += factor * pixels[source, p]


@njit
@no_type_check
def pixel_run(splat, top, live):
    """The tile's pixels between the first and the last row that the ellipse reaches, dead rows at the ends left out.

    Unsigned, since numba would else test every index for counting from the end, which no vector instruction does.
    """
    first = ceil(max(splat[1] - splat[6] - HALF - top, 0.0))
    last = floor(min(splat[1] + splat[6] + HALF - top, float(TILE)))
    while first < last and not live[first]:
        first += 1
    while first < last and not live[last - 1]:
        last -= 1
    return np.uint64(first * TILE), np.uint64(max(first, last) * TILE)


@njit
@no_type_check
def place_pixels(tile, size, pixels):
    """Fills pixel centres; returns the tile's left and top pixel, and its columns and rows inside the picture."""
    across = (size[0] + TILE - 1) // TILE
    left, top = tile % across * TILE, tile // across * TILE
    for p in range(AREA):
        pixels[X, p], pixels[Y, p] = f32(left + p % TILE) + HALF, f32(top + p // TILE) + HALF
    return left, top, min(TILE, size[0] - left), min(TILE, size[1] - top)


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def composite(start, stop, packed, pairs, begins, size, backgrounds, ends, features, alphas, depths):
    """Fills pictures of tiles start to stop, and `ends` (B tiles 2 AREA): transmittance left, last one's number."""
    tiles = begins.shape[1] - 1
    channels = packed.shape[2] - HEAD
    pixels = np.empty((CHANNELS + channels, AREA), f32)
    live = np.empty(TILE, np.bool_)
    for task in range(start, stop):
        b, tile = task // tiles, task % tiles
        left, top, wide, rows = place_pixels(tile, size, pixels)
        pixels[T:] = ZERO
        for y in range(rows):
            pixels[T, y * TILE : y * TILE + wide] = ONE
        for place in range(begins[b, tile], begins[b, tile + 1]):
            count = place - begins[b, tile]
            if count % CHECK_EVERY == 0:
                for y in range(TILE):
                    live[y] = pixels[T, y * TILE : (y + 1) * TILE].max() > ZERO
                if not live.any():
                    break
            splat = packed[b, pairs[place, 0]]
            ellipse = (splat[0], splat[1], splat[2], splat[3], splat[4], splat[5])
            i, j = pixel_run(splat, top, live)
            lay(pixels, i, j, ellipse, f32(count + 1))
            for k in range(channels):
                add_scaled(pixels, i, j, CHANNELS + k, splat[HEAD + k], WEIGHT)
        ends[b, tile, 0], ends[b, tile, 1] = np.abs(pixels[T]), pixels[LAST]
        for y in range(rows):
            for x in range(wide):
                p, py, px = y * TILE + x, top + y, left + x
                t = abs(pixels[T, p])
                alphas[b, py, px, 0] = ONE - t
                depths[b, py, px, 0] = pixels[CHANNELS, p] / max(ONE - t, TINY)
                for k in range(channels - 1):
                    features[b, py, px, k] = pixels[CHANNELS + 1 + k, p] + t * backgrounds[b, k]
