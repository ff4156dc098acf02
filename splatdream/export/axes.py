"""Axes: a cloud turned between this project's world and the worlds of files.

z-up is ours (`cameras.py`: +z up, front -y). y-down is what splat files use: p' = (x, -z, y), so up becomes -y and the
front -z. y-up is that of glTF, OBJ and spz: p' = (x, z, -y), front +z. All three are right-handed.

A turn R maps a direction d to R d and must leave what is seen along with it unchanged: Y(R d) f' = Y(d) f for the real
spherical harmonics Y and their coefficients f, so f' = D f with Y(R d) = D Y(d), one orthogonal D per degree l.
"""

from difflib import get_close_matches
from functools import cache, partial
from math import sqrt
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splatdream.splats import Splats

Axes = Literal["z-up", "y-down", "y-up"]

QUARTER_TURNS = {"z-up": 0, "y-down": 1, "y-up": -1}
"""By how many quarter turns about +x a convention's world is ours turned."""


def turn(splats: Splats, *, source: Axes = "z-up", target: Axes = "z-up") -> Splats:
    """The cloud, given in the axes of `source`, in those of `target`: centres, rotations and colours.

    ValueError for an unknown convention.
    """
    turns = QUARTER_TURNS[known(target)] - QUARTER_TURNS[known(source)]
    if turns == 0:
        return splats
    quat, rotation = about_x(turns)
    return splats.replace(
        means=splats.means @ rotation.T.to(splats.means),
        quats=multiply(quat.to(splats.quats), splats.quats),
        shN=apply_sh(splats.shN, quarter_turns_sh(turns)),
    )


def rotate(splats: Splats, rotation: Float[Tensor, "3 3"]) -> Splats:
    """The cloud turned about the origin by any rotation: centres, rotations and colours."""
    return splats.replace(
        means=splats.means @ rotation.T.to(splats.means),
        quats=multiply(quaternion(rotation).to(splats.quats), splats.quats),
        shN=turn_sh(splats.shN, rotation),
    )


def quaternion(rotation: Float[Tensor, "3 3"]) -> Float[Tensor, " 4"]:
    """The wxyz quaternion of a rotation matrix, also of one that is slightly off (Bar-Itzhack 2000)."""
    (a, b, c), (d, e, f), (g, h, i) = rotation.double().tolist()
    K = [[a + e + i, h - f, c - g, d - b], [0, a - e - i, b + d, c + g], [0, 0, e - a - i, f + h], [0, 0, 0, i - a - e]]
    # Of the symmetric matrix; ascending eigenvalues.
    return torch.linalg.eigh(torch.tensor(K, dtype=torch.float64), UPLO="U").eigenvectors[:, -1]


def known(axes: str) -> str:
    """`axes`, if it is one of the conventions."""
    if axes not in QUARTER_TURNS:
        nearest = get_close_matches(axes, QUARTER_TURNS, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(f"unknown axes {axes!r}, choose from {', '.join(get_args(Axes))}{hint}")
    return axes


def about_x(turns: int) -> tuple[Float[Tensor, " 4"], Float[Tensor, "3 3"]]:
    """Quaternion and matrix of quarter turns about +x; the matrix holds exact zeros and ones."""
    half = sqrt(0.5)
    quats = [(1.0, 0.0), (half, half), (0.0, 1.0), (half, -half)]
    cosine, sine = [(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)][turns % 4]
    w, x = quats[turns % 4]
    rotation = [[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]]
    return torch.tensor([w, x, 0.0, 0.0], dtype=torch.float64), torch.tensor(rotation, dtype=torch.float64)


def multiply(quat: Float[Tensor, " 4"], quats: Float[Tensor, "N 4"]) -> Float[Tensor, "N 4"]:
    """The Hamilton products quat * quats: first turned by `quats`, then by `quat`."""
    w, x, y, z = quat
    left = torch.stack(
        [
            torch.stack([w, -x, -y, -z]),
            torch.stack([x, w, -z, y]),
            torch.stack([y, z, w, -x]),
            torch.stack([z, -y, x, w]),
        ]
    )
    return quats @ left.T


def turn_sh(shN: Float[Tensor, "N K 3"], rotation: Float[Tensor, "3 3"]) -> Float[Tensor, "N K 3"]:
    """The coefficients beyond the constant one, of an object turned by `rotation`."""
    return apply_sh(shN, torch.block_diag(*sh_rotations(rotation)))


def apply_sh(shN: Float[Tensor, "N K 3"], matrix: Float[Tensor, "15 15"]) -> Float[Tensor, "N K 3"]:
    """D f, for the degrees that the coefficients have.

    One product for all channels, which at no cost puts contiguous coefficients channel by channel, as files have them,
    and others one after another, as clouds have them.
    """
    K = shN.shape[1]
    if K == 0:
        return shN
    by_channel = torch.einsum("jk,cd->kcdj", matrix[:K, :K].to(shN), torch.eye(3).to(shN))
    if shN.is_contiguous():
        return (shN.reshape(-1, 3 * K) @ by_channel.reshape(3 * K, 3 * K)).reshape(-1, 3, K).transpose(1, 2)
    back = by_channel.permute(1, 0, 3, 2).reshape(3 * K, 3 * K)
    return (shN.transpose(1, 2).reshape(-1, 3 * K) @ back).reshape(-1, K, 3)


@cache
def quarter_turns_sh(turns: int) -> Float[Tensor, "15 15"]:
    return torch.block_diag(*sh_rotations(about_x(turns)[1]))


def sh_rotations(rotation: Float[Tensor, "3 3"]) -> tuple[Tensor, Tensor, Tensor]:
    """D of degrees 1 to 3 for the basis of splat files, orders m = -l ... l, with the sign (-1)^m."""
    axes = [1, 2, 0]
    first = rotation.detach().double().cpu().numpy()[np.ix_(axes, axes)]
    second = next_degree(first, first)
    third = next_degree(first, second)
    return signed(first), signed(second), signed(third)


def signed(matrix: np.ndarray) -> Tensor:
    """D in the basis with the sign (-1)^m, from D in the basis without."""
    degree = len(matrix) // 2
    signs = np.array([(-1.0) ** m for m in range(-degree, degree + 1)])
    return torch.from_numpy(signs[:, None] * matrix * signs)


def next_degree(first: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """D of degree l from those of degree 1 and l - 1 (Ivanic & Ruedenberg 1996, table 1, with the 1998 errata)."""
    degree = len(previous) // 2 + 1
    orders = range(-degree, degree + 1)
    return np.array([[entry(first, previous, degree, m, n) for n in orders] for m in orders])


def entry(first: np.ndarray, previous: np.ndarray, degree: int, m: int, n: int) -> float:
    """D[m, n] = u U + v V + w W, the letters of the paper."""
    p = partial(blend, first, previous, n)
    size, sign = abs(m), 1 if m > 0 else -1
    scale = 2 * degree * (2 * degree - 1) if abs(n) == degree else (degree + n) * (degree - n)
    total = 0.0
    if size < degree:
        total += sqrt((degree + m) * (degree - m) / scale) * p(0, m)
    if m == 0:
        return total - 0.5 * sqrt(2 * (degree - 1) * degree / scale) * (p(1, 1) + p(-1, -1))
    # Next to m = 0 one of V's two terms is missing and the other one larger by the root of 2.
    V = sqrt(2) * p(m, 0) if size == 1 else p(1, m - sign) - sign * p(-1, sign - m)
    total += 0.5 * sqrt((degree + size - 1) * (degree + size) / scale) * V
    if size < degree - 1:
        W = p(1, m + sign) + sign * p(-1, -m - sign)
        total -= 0.5 * sqrt((degree - size - 1) * (degree - size) / scale) * W
    return total


def blend(first: np.ndarray, previous: np.ndarray, n: int, i: int, a: int) -> float:
    """P of the paper: entries of degree l - 1 in row `a`, weighted by those of degree 1 in row `i`."""
    below = len(previous) // 2
    row, weights = previous[a + below], first[i + 1]
    if n > below:
        return weights[2] * row[-1] - weights[0] * row[0]
    if n < -below:
        return weights[2] * row[0] + weights[0] * row[-1]
    return weights[1] * row[n + below]
