"""Clouds to write, and the comparison of what was read with what was written."""

import torch
from torch import Tensor

from splatdream.export.axes import quarter_turns_sh
from splatdream.splats import SH_C0, Splats

ATTRIBUTES = ("means", "quats", "log_scales", "opacities", "sh0", "shN")


def cloud(count: int = 40, degree: int = 0, *, seed: int = 0) -> Splats:
    """Random Gaussians about the unit ball, of colours and coefficients that every format can hold, turned or not."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return Splats(
        means=0.5 * normal(count, 3),
        quats=torch.nn.functional.normalize(normal(count, 4), dim=-1),
        log_scales=(-2.5 + 0.7 * normal(count, 3)).clamp(-6, 1),
        logit_opacities=2 * normal(count),
        sh0=(0.8 * normal(count, 1, 3)).clamp(-1.7, 1.7),
        shN=(0.3 * normal(count, (degree + 1) ** 2 - 1, 3)).clamp(-0.65, 0.65),
    )


def in_order_of(splats: Splats, like: Splats) -> Splats:
    """The rows of a cloud in the order of another one of the same places; a file may have its own order."""
    distances = torch.cdist(like.means.double(), splats.means.double())
    rows = distances.argmin(1)
    assert rows.unique().numel() == len(like) == len(splats)
    return splats.take(rows)


def differences(splats: Splats, like: Splats) -> dict[str, Tensor]:
    """How far every attribute is off.

    Quaternions of any length and either sign are one rotation, and half a turn about its own axis leaves a Gaussian as
    it is.
    """
    w, x, y, z = torch.nn.functional.normalize(splats.quats, dim=-1).unbind(1)
    turns = [(w, x, y, z), (-x, w, z, -y), (-y, -z, w, x), (-z, y, -x, w)]
    same = torch.stack([torch.stack(turn, 1) for turn in turns], 1)
    like = like.replace(quats=torch.nn.functional.normalize(like.quats, dim=-1))
    overlap = (same * like.quats[:, None]).sum(2)
    nearest = overlap.abs().argmax(1, keepdim=True)
    signs = overlap.gather(1, nearest).sign()
    splats = splats.replace(quats=signs * same.gather(1, nearest[:, :, None].expand(-1, 1, 4))[:, 0])
    return {name: (getattr(splats, name) - getattr(like, name)).abs() for name in ATTRIBUTES}


def assert_near(splats: Splats, like: Splats, tolerances: dict[str, float]) -> None:
    assert splats.shN.shape == like.shN.shape
    for name, off in differences(splats, like).items():
        worst = off.max().item() if off.numel() else 0.0
        assert worst <= tolerances[name], f"{name} is off by {worst:.3g}, allowed are {tolerances[name]:.3g}"


def extent(values: Tensor) -> float:
    return (values.amax(0) - values.amin(0)).max().item() if values.numel() else 0.0


ROUNDING = 4e-6
"""Turned by roots of one half, normalised, and through a logarithm or a sigmoid and back, in float32."""
EXACT: dict[str, float] = dict.fromkeys(ATTRIBUTES, ROUNDING)
MIXED = max(quarter_turns_sh(turns).abs().sum(1).max().item() for turns in (1, -1))
"""How many times its own error a coefficient can have when it is a sum of others, turned."""


def tolerances(suffix: str, splats: Splats) -> dict[str, float]:
    """What each format states: half the distance between two of its levels, and the rounding of float32."""
    byte = 0.5 / 255
    stated = {
        ".ply": {},
        ".glb": {},
        ".gltf": {},
        ".compressed.ply": {
            # The coarsest axis has 10 bits, here y of the file.
            "means": 0.5 / 1023 * extent(splats.means),
            "log_scales": 0.5 / 1023 * extent(splats.log_scales),
            "quats": smallest_three(0.5 / 1023 * 2 / 2**0.5),
            "opacities": byte,
            "sh0": byte * extent(splats.sh0[:, 0]),
            "shN": MIXED * 4 / 256,
        },
        # The quaternion is made of unit length again: twice the error of a component at most.
        ".spz": {
            "means": 0.5 / 2**12,
            "log_scales": 0.5 / 16,
            "quats": smallest_three(0.5 / 511 / 2**0.5),
            "opacities": byte,
            "sh0": byte / 0.15,
            # The fewest bits, 4, and the rounding to 8 before.
            "shN": MIXED * (2**-4 + 0.5 / 128),
        },
        ".sog": {
            "means": 0.5
            / 65535
            * extent(splats.means.sign() * splats.means.abs().log1p())
            * (1 + splats.means.abs().max()),
            "log_scales": extent(splats.log_scales.flatten()) / 254,
            "quats": smallest_three(0.5 / 255 * 2**0.5),
            "opacities": byte,
            "sh0": extent(splats.sh0.flatten()) / 254,
            "shN": MIXED * 1.5 * extent(splats.shN.flatten()) / 254,
        },
        ".splat": {"quats": 2 / 256, "opacities": byte, "sh0": byte / SH_C0},
    }[suffix]
    return {name: stated.get(name, 0) + ROUNDING for name in ATTRIBUTES}


def smallest_three(step: float) -> float:
    """The error of the largest component, which is at least one half, when the three others are off by `step`."""
    return 3 * step


def perturbed(splats: Splats, allowed: dict[str, float], *, seed: int = 1) -> Splats:
    """The cloud with every attribute off by a random part of what is allowed."""
    generator = torch.Generator().manual_seed(seed)
    noisy = {
        name: getattr(splats, name)
        + allowed[name] * (2 * torch.rand(getattr(splats, name).shape, generator=generator) - 1)
        for name in ATTRIBUTES
    }
    opacities = noisy.pop("opacities").clamp(1e-6, 1 - 1e-6)
    return Splats(**noisy, logit_opacities=torch.logit(opacities))
