"""Light: what brightens a surface by its direction alone, known or estimated, and colours without it.

A `Light` gives the factor by which the albedo was multiplied, in display-referred colours as the corpus does it
(`corpus/truth.py`). T texels.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from splatdream.corpus.truth import AMBIENT, DIFFUSE, LIGHT, SKY

Light = Callable[[Float[np.ndarray, "T 3"]], Float[np.ndarray, " T"]]

BINS = 12
"""Colours of one bin of chromaticity, of BINS a channel, are taken for one paint."""
ROUNDS = 8
DIMMEST, BRIGHTEST = 0.4, 2.0
"""An estimate beyond these is held there."""


def builtin(normals: Float[np.ndarray, "T 3"]) -> Float[np.ndarray, " T"]:
    """The light of the corpus, which the built-in prior has learnt to paint."""
    facing = np.maximum(normals @ LIGHT, 0.0)
    return AMBIENT + DIFFUSE * facing + SKY * 0.5 * (1.0 + normals[:, 2])


def estimated(colours: Float[np.ndarray, "T 3"], normals: Float[np.ndarray, "T 3"]) -> Light:
    """The light that explains best why texels of one paint differ, 1 on average over the surface.

    log(brightness) is a quadratic polynomial of the normal, so that it stays positive; what it is fitted to are
    differences within a paint, by least absolute deviations (reweighted least squares), which patterns disturb little.
    """
    luminances = np.log(np.maximum(colours @ [0.299, 0.587, 0.114], 0.02))
    chromaticities = colours / np.maximum(colours.sum(1, keepdims=True), 1e-3)
    bins = np.floor(chromaticities[:, :2] * BINS).astype(int) @ [BINS + 1, 1]
    _, paints = np.unique(bins, return_inverse=True)
    basis, weights = directions(normals), np.ones(len(colours))
    coefficients = np.zeros(basis.shape[1])
    for _ in range(ROUNDS):
        centred, target = (values - means(values, paints, weights) for values in (basis, luminances[:, None]))
        weighted = centred * weights[:, None]
        ridge = 1e-3 * len(colours) * np.eye(basis.shape[1])
        coefficients = np.linalg.solve(centred.T @ weighted + ridge, weighted.T @ target[:, 0])
        weights = 1.0 / np.maximum(np.abs(target[:, 0] - centred @ coefficients), 0.02)
        weights /= weights.mean()
    middle = float(np.exp(basis @ coefficients).mean())
    return lambda normals: np.clip(np.exp(directions(normals) @ coefficients) / middle, DIMMEST, BRIGHTEST)


def unlit(
    colours: Float[np.ndarray, "T 3"], normals: Float[np.ndarray, "T 3"], light: Light
) -> Float[np.ndarray, "T 3"]:
    """The albedo in [0, 1] of what shows these colours under the light."""
    return (colours / light(normals)[:, None]).clip(0, 1).astype(np.float32)


def directions(normals: Float[np.ndarray, "T 3"]) -> Float[np.ndarray, "T 8"]:
    """The polynomials of degree 1 and 2 of a direction, which span those two bands of spherical harmonics."""
    x, y, z = normals.T.astype(np.float64)
    return np.stack([x, y, z, x * y, y * z, z * x, x * x - y * y, z * z - 1 / 3], axis=1)


def means(
    values: Float[np.ndarray, "T D"], paints: np.ndarray, weights: Float[np.ndarray, " T"]
) -> Float[np.ndarray, "T D"]:
    """The weighted mean of each texel's own paint."""
    totals = np.bincount(paints, weights)
    sums = np.stack([np.bincount(paints, weights * column) for column in values.T], axis=1)
    return (sums / totals[:, None])[paints]
