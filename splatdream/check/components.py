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
    low, high = means.min(0), means.max(0)
    cell = max(float((high - low).max()) / CELLS, 1e-12)
    shape = np.maximum(np.ceil((high - low) / cell), 1).astype(np.int64)
    # Half a cell's diagonal more, so that the cells between two that nearly touch are not missed.
    reaches = REACH * scales + 0.5 * np.sqrt(3) * cell
    parents = np.arange(len(means))
    owners = np.full(tuple(shape), -1)
    places = ((means - low) / cell).astype(np.float64)
    _join_cells(places, rotations.astype(np.float64), (reaches / cell).astype(np.float64), owners, parents)
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
    """Joins each Gaussian with the first one that reached into a cell that it reaches into. Lengths are in cells."""
    for n in range(len(places)):
        place, rotation, reach = places[n], rotations[n], reaches[n]
        first, last = np.empty(3, np.int64), np.empty(3, np.int64)
        for axis in range(3):
            half = np.sqrt(((rotation[axis] * reach) ** 2).sum())
            first[axis] = max(int(np.floor(place[axis] - half)), 0)
            last[axis] = min(int(np.ceil(place[axis] + half)), owners.shape[axis] - 1)
        for i in range(first[0], last[0] + 1):
            for j in range(first[1], last[1] + 1):
                for k in range(first[2], last[2] + 1):
                    x, y, z = i + 0.5 - place[0], j + 0.5 - place[1], k + 0.5 - place[2]
                    far = 0.0
                    for axis in range(3):
                        along = rotation[0, axis] * x + rotation[1, axis] * y + rotation[2, axis] * z
                        far += (along / reach[axis]) ** 2
                    if far > 1.0:
                        continue
                    if owners[i, j, k] < 0:
                        owners[i, j, k] = n
                    else:
                        _join(parents, owners[i, j, k], n)
