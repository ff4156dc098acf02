"""Quantisation that several formats share: numbers as levels, quaternions by their smallest three, order in space.

Everything here is numpy; N rows.
"""

import numpy as np

OTHERS = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
"""The places that are stored when the largest component is left out."""


def levels(values: np.ndarray, bits: int) -> np.ndarray:
    """The nearest of the 2^bits evenly spaced levels of [0, 1]; what lies outside goes to the ends."""
    top = (1 << bits) - 1
    return np.rint(np.clip(values, 0, 1) * top).astype(np.uint32)


def unlevel(numbers: np.ndarray, bits: int) -> np.ndarray:
    """The lowest `bits` of integers as values in [0, 1]."""
    top = (1 << bits) - 1
    return (numbers & top).astype(np.float32) / top


def smallest_three(quats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The place of each quaternion's largest component, and the three others times the root of 2, in [-1, 1].

    The sign is the one that makes the largest component positive, so that it need not be stored.
    """
    places = np.abs(quats).argmax(1)
    largest = np.take_along_axis(quats, places[:, None], 1)
    others = np.take_along_axis(quats, OTHERS[places], 1)
    return places, np.sqrt(np.float32(2)) * np.where(largest < 0, -others, others)


def from_smallest_three(places: np.ndarray, three: np.ndarray) -> np.ndarray:
    """The unit quaternions whose component at `places` was left out."""
    others = three / np.sqrt(np.float32(2))
    quats = np.empty((len(three), 4), np.float32)
    largest = np.sqrt(np.maximum(0, 1 - np.square(others).sum(1)))
    np.put_along_axis(quats, places[:, None].astype(np.intp), largest[:, None], 1)
    np.put_along_axis(quats, OTHERS[places], others, 1)
    return quats


def morton_order(means: np.ndarray) -> np.ndarray:
    """The rows along a Z-order curve through their bounding box, neighbours in space mostly next to each other."""
    if len(means) == 0:
        return np.zeros(0, np.int64)
    low = means.min(0).astype(np.float64)
    size = np.maximum(means.max(0) - low, np.finfo(np.float32).tiny)
    cells = levels((means - low) / size, 20).astype(np.uint64)
    codes = spread(cells[:, 0]) << 2 | spread(cells[:, 1]) << 1 | spread(cells[:, 2])
    return codes.argsort(kind="stable")


def spread(numbers: np.ndarray) -> np.ndarray:
    """Integers of 21 bits with two zeros before every bit."""
    for shift, mask in (
        (32, 0x1F00000000FFFF),
        (16, 0x1F0000FF0000FF),
        (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3),
        (2, 0x1249249249249249),
    ):
        numbers = (numbers | numbers << np.uint64(shift)) & np.uint64(mask)
    return numbers
