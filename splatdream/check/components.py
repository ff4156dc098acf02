"""Connected components: which Gaussians, or which corners of a mesh, hang together. A union-find in numba."""

from typing import no_type_check

import numpy as np
from jaxtyping import Float, Int
from numba import njit

CELLS = 64
"""Gaussians are compared on a grid of so many cells along the longest side: narrower gaps are not seen."""
REACH = 1.5
"""A Gaussian ends at so many standard deviations."""


def of_edges(edges: Int[np.ndarray, "E 2"], count: int) -> Int[np.ndarray, " N"]:
    """A label for each of `count` nodes, equal where edges lead from one to the other; labels run from 0."""
    parents = np.arange(count)
    _join_edges(np.ascontiguousarray(edges, np.int64), parents)
    return _labels(parents)


def of_gaussians(
    means: Float[np.ndarray, "N 3"], rotations: Float[np.ndarray, "N 3 3"], scales: Float[np.ndarray, "N 3"]
) -> Int[np.ndarray, " N"]:
    """A label for each Gaussian, equal where their ellipsoids touch, directly or through others; labels run from 0.

    Two touch when both reach into the same cell of a grid; the columns of a rotation are the Gaussian's own axes.
    """
    if len(means) == 0:
        return np.zeros(0, np.int64)
    means = means.astype(np.float64)
    low, high = means.min(0), means.max(0)
    cell = max(float((high - low).max()) / CELLS, 1e-12)
    shape = np.maximum(np.ceil((high - low) / cell), 1).astype(np.int64)
    # Half a cell's diagonal more, so that the cells between two that nearly touch are not missed.
    reaches = REACH * scales + 0.5 * np.sqrt(3) * cell
    parents = np.arange(len(means))
    owners = np.full(tuple(shape), -1)
    # No grid is wider, and an infinite reach would leave a quadratic without its square.
    reaches = np.minimum(reaches.astype(np.float64) / cell, 1e6)
    _join_cells((means - low) / cell, rotations.astype(np.float64), reaches, owners, parents)
    return _labels(parents)


def _labels(parents: np.ndarray) -> np.ndarray:
    roots = np.array(_roots(parents))
    return np.unique(roots, return_inverse=True)[1]


@njit(cache=True)
@no_type_check
def _root(parents, node):
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


@njit(cache=True)
@no_type_check
def _join(parents, one, two):
    one, two = _root(parents, one), _root(parents, two)
    parents[max(one, two)] = min(one, two)


@njit(cache=True)
@no_type_check
def _roots(parents):
    roots = np.empty_like(parents)
    for node in range(len(parents)):
        roots[node] = _root(parents, node)
    return roots


@njit(cache=True)
@no_type_check
def _join_edges(edges, parents):
    for e in range(len(edges)):
        _join(parents, edges[e, 0], edges[e, 1])


@njit(cache=True)
@no_type_check
def _join_cells(places, rotations, reaches, owners, parents):
    """Joins each Gaussian with those that reached into a cell that it reaches into. Lengths are in cells.

    Cells of a column that one Gaussian has covered belong to one part for good: they become one run, which has its
    owner at its last cell. So each Gaussian costs a column's runs and not its cells.
    """
    columns, height = owners.shape[:2], owners.shape[2]
    ends = np.empty(owners.shape, np.int64)
    ends[:] = np.arange(height)
    for n in range(len(places)):
        place, rotation, reach = places[n], rotations[n], reaches[n]
        first, last = np.empty(2, np.int64), np.empty(2, np.int64)
        for axis in range(2):
            half = np.sqrt(((rotation[axis] * reach) ** 2).sum())
            first[axis] = max(int(np.floor(place[axis] - half)), 0)
            last[axis] = min(int(np.ceil(place[axis] + half)), columns[axis] - 1)
        for i in range(first[0], last[0] + 1):
            for j in range(first[1], last[1] + 1):
                low, high = _crossing(i + 0.5 - place[0], j + 0.5 - place[1], rotation, reach)
                bottom = max(int(np.ceil(max(place[2] + low, 0.0) - 0.5)), 0)
                top = int(np.floor(min(place[2] + high, height - 0.5) - 0.5))
                if bottom <= top:
                    _join_run(ends[i, j], owners[i, j], bottom, top, parents, n)


@njit(cache=True)
@no_type_check
def _crossing(x, y, rotation, reach):
    """Where a line along z enters and leaves an ellipsoid about the origin: the second below the first where not."""
    a, b, c = 0.0, 0.0, -1.0
    for axis in range(3):
        along, beside = rotation[2, axis] / reach[axis], (rotation[0, axis] * x + rotation[1, axis] * y) / reach[axis]
        a += along * along
        b += along * beside
        c += beside * beside
    square = b * b - a * c
    if square < 0.0:
        return 1.0, -1.0
    root = np.sqrt(square)
    return (-b - root) / a, (-b + root) / a


@njit(cache=True)
@no_type_check
def _join_run(ends, owners, bottom, top, parents, n):
    """Makes the cells of a column from `bottom` to `top`, and the runs that they are of, one run of the Gaussian's."""
    run = _root(ends, bottom)
    while True:
        if owners[run] < 0:
            owners[run] = n
        else:
            _join(parents, owners[run], n)
        if run >= top:
            return
        following = _root(ends, run + 1)
        ends[run] = following
        run = following
