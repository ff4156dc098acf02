"""Codebooks: a few values that stand for many, for numbers and for rows of coefficients. Deterministic, in numpy."""

import numpy as np

LEVELS = 256


def codebook(values: np.ndarray) -> np.ndarray:
    """256 ascending numbers, none of the values further from one of them than 1/254 of their range.

    One half of them is evenly spaced, which bounds the error; the other half lies where values are many.
    """
    if values.size == 0:
        return np.zeros(LEVELS, np.float32)
    half = LEVELS // 2
    even = np.linspace(values.min(), values.max(), half)
    crowded = np.quantile(values, (np.arange(half) + 0.5) / half)
    return np.sort(np.concatenate([even, crowded])).astype(np.float32)


def nearest(values: np.ndarray, book: np.ndarray) -> np.ndarray:
    """The places of the values in an ascending codebook, as bytes."""
    return np.searchsorted((book[1:] + book[:-1]) / 2, values).astype(np.uint8)


def palette(rows: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """A label for every row, and the rows that the labels stand for: at most so many, a power of 2.

    They are exact where there are no more different ones; else each is the mean of a cell, and cells are halved, all at
    a time, along the coordinate in which they are widest.
    """
    distinct, labels = np.unique(rows, axis=0, return_inverse=True)
    if len(distinct) <= most:
        return labels.reshape(-1), distinct
    order, starts = np.arange(len(rows)), np.zeros(1, np.intp)
    while len(starts) < most:
        order, starts = halved(rows, order, starts)
    sizes = np.diff(starts, append=len(rows))
    labels = np.empty(len(rows), np.intp)
    labels[order] = np.repeat(np.arange(len(starts)), sizes)
    return labels, np.add.reduceat(rows[order], starts) / sizes[:, None]


def halved(rows: np.ndarray, order: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The order of rows, and the starts of cells in it, after every cell was cut at its median."""
    sizes = np.diff(starts, append=len(rows))
    sorted_rows = rows[order]
    means = np.add.reduceat(sorted_rows, starts) / sizes[:, None]
    spreads = np.add.reduceat(np.square(sorted_rows), starts) / sizes[:, None] - np.square(means)
    cells = np.repeat(np.arange(len(starts)), sizes)
    keys = sorted_rows[np.arange(len(rows)), spreads.argmax(1)[cells]]
    order = order[np.lexsort((keys, cells))]
    return order, np.stack([starts, starts + sizes // 2], 1).reshape(-1)
