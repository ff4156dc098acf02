"""Which Gaussians every tile of 16 x 16 pixels must look at, front to back.

One task is one view: it sorts the Gaussians that are seen by depth, packs what compositing reads of them in that order
(`rank` is the place in it), and lists the (Gaussian, tile) pairs. A Gaussian belongs to a tile if its ellipse of
alpha = 1/255 reaches a pixel row of the tile within the tile's columns: an exact test in closed form per row of tiles.
Pairs are numbered twice: by place in their tile's list, and by `slot`, which counts the pairs of one Gaussian after
another, so that gradients written per slot are summed per Gaussian in a fixed order.
"""

from dataclasses import dataclass
from math import ceil, floor, log, sqrt
from typing import no_type_check

import numpy as np
from numba import njit

from splatdream.render import MIN_ALPHA
from splatdream.render._threads import run

TILE = 16
HEAD = 7
"""Numbers of a packed Gaussian before its channels: mean x, y, a, s, q, opacity, half the ellipse's height."""

HUGE = 1e9
"""No ellipse reaches more pixels than this from its centre, so that nothing overflows."""

_DIGIT = 11
_BUCKETS = 1 << _DIGIT


@dataclass(frozen=True)
class TileLists:
    """The pairs of B views: see `sort_views` and `list_pairs` for the arrays."""

    order: np.ndarray
    packed: np.ndarray
    seen: np.ndarray
    slots: np.ndarray
    begins: np.ndarray
    pairs: np.ndarray


def tile_lists(means2d, rows, radii, extras, size: tuple[int, int]) -> TileLists:
    """The tile lists of projected Gaussians; memory is proportional to Gaussians x views and to pairs."""
    views, number = means2d.shape[:2]
    tiles = -(-size[0] // TILE) * -(-size[1] // TILE)
    order, seen = np.empty((views, number), np.int32), np.empty(views, np.int64)
    packed = np.empty((views, number, HEAD + 4 + extras.shape[1]), np.float32)
    slots, lengths = np.empty((views, number + 1), np.int64), np.zeros((views, tiles), np.int64)
    run(sort_views, views, 1, means2d, rows, radii, extras, size, order, packed, seen, slots, lengths)
    ends = lengths.cumsum().reshape(views, tiles)
    begins = np.concatenate([np.roll(ends[:, -1:], 1, axis=0), ends], 1)
    begins[0, 0] = 0
    pairs = np.empty((ends[-1, -1], 2), np.int32)
    run(list_pairs, views, 1, packed, size, seen, begins, pairs)
    return TileLists(order, packed, seen, slots, begins, pairs)


@njit
@no_type_check
def sort_by_depth(depths, seen, order):
    """Fills `order` with the indices where `seen`, nearest first, ties in index order; returns how many."""
    keys, other_keys = np.empty(len(seen), np.uint32), np.empty(len(seen), np.uint32)
    other_order = np.empty(len(seen), np.int32)
    bits = depths.view(np.uint32)
    count = 0
    for i in range(len(seen)):
        if seen[i] > 0:
            keys[count], order[count] = bits[i], i
            count += 1
    source_keys, source, target_keys, target = keys, order, other_keys, other_order
    # Bits of positive floats grow with the float; four passes leave the result in `order` again.
    for step in range(4):
        shift = np.uint32(_DIGIT * step)
        places = np.zeros(_BUCKETS + 1, np.int64)
        for n in range(count):
            places[((source_keys[n] >> shift) & np.uint32(_BUCKETS - 1)) + 1] += 1
        for digit in range(_BUCKETS):
            places[digit + 1] += places[digit]
        for n in range(count):
            digit = (source_keys[n] >> shift) & np.uint32(_BUCKETS - 1)
            target_keys[places[digit]], target[places[digit]] = source_keys[n], source[n]
            places[digit] += 1
        source_keys, source, target_keys, target = target_keys, target, source_keys, source
    return count


@njit
@no_type_check
def pack(mean2d, row, extras, out):
    """Writes one packed Gaussian."""
    a, s, q, opacity = row[0], row[1], row[2], row[3]
    # A little more than the threshold asks, as compositing decides in single precision.
    reach = 2 * log(max(opacity / MIN_ALPHA, 1.0)) * (1 + 1e-4) + 1e-4
    out[0], out[1], out[2], out[3], out[4], out[5] = mean2d[0], mean2d[1], a, s, q, opacity
    out[6] = min(sqrt(reach / q), HUGE)
    out[HEAD : HEAD + 4] = row[4:8]
    out[HEAD + 4 :] = extras


@njit
@no_type_check
def tile_rows(splat, height):
    """The tile rows from first to last (excluded) that the ellipse reaches."""
    top = ceil(max(splat[1] - splat[6] - 0.5, 0.0))
    bottom = floor(min(splat[1] + splat[6] - 0.5, height - 1.0))
    return (top // TILE, bottom // TILE + 1) if bottom >= top else (0, 0)


@njit
@no_type_check
def tile_columns(splat, row, width):
    """The tile columns from first to last (excluded) that the ellipse reaches within a tile row."""
    x, y, a, s, q, half = splat[0], splat[1], splat[2], splat[3], splat[4], splat[6]
    low, high = max(y - (row * TILE + TILE - 0.5), -half), min(y - (row * TILE + 0.5), half)
    if low > high:
        return 0, 0
    # An ellipse's rightmost point lies at this dy, its leftmost at the opposite one; edges bulge, so clamping works.
    turn = half * s * sqrt(a) / sqrt(q + a * s * s)
    dy = min(max(turn, low), high)
    right = x + s * dy + sqrt(max(q * (half * half - dy * dy), 0.0) / a)
    dy = min(max(-turn, low), high)
    left = x + s * dy - sqrt(max(q * (half * half - dy * dy), 0.0) / a)
    first, last = ceil(max(left - 0.5, 0.0)), floor(min(right - 0.5, width - 1.0))
    return (first // TILE, last // TILE + 1) if last >= first else (0, 0)


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def sort_views(start, stop, means2d, rows, radii, extras, size, order, packed, seen, slots, lengths):
    """Sorts and packs views start to stop; fills `slots` (B N+1), where a Gaussian's pairs begin, and `lengths`."""
    width, height = size
    across = (width + TILE - 1) // TILE
    for b in range(start, stop):
        seen[b] = sort_by_depth(rows[b, :, 4].copy(), radii[b, :, 0], order[b])
        pairs = 0
        for rank in range(seen[b]):
            i, splat = order[b, rank], packed[b, rank]
            pack(means2d[b, i], rows[b, i], extras[i], splat)
            slots[b, rank] = pairs
            first_row, last_row = tile_rows(splat, height)
            for row in range(first_row, last_row):
                first, last = tile_columns(splat, row, width)
                for column in range(first, last):
                    lengths[b, row * across + column] += 1
                pairs += max(last - first, 0)
        slots[b, seen[b]] = pairs


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def list_pairs(start, stop, packed, size, seen, begins, pairs):
    """Fills `pairs` (P 2), rank and slot, tile after tile; `begins` (B tiles+1) says where a tile's begin and end."""
    width, height = size
    across = (width + TILE - 1) // TILE
    for b in range(start, stop):
        places = begins[b].copy()
        slot = begins[b, 0]
        for rank in range(seen[b]):
            splat = packed[b, rank]
            first_row, last_row = tile_rows(splat, height)
            for row in range(first_row, last_row):
                first, last = tile_columns(splat, row, width)
                for column in range(first, last):
                    place = places[row * across + column]
                    pairs[place, 0], pairs[place, 1] = rank, slot
                    places[row * across + column] += 1
                    slot += 1
