"""Splats: the stored parameters of a cloud of Gaussians and their activated views.

Stored values carry their activation in their name (`log_scales`, `logit_opacities`); a bare name is the activated
value, as gsplat expects it. Letters: N Gaussians, K spherical-harmonics bases beyond the constant one (0, 3, 8, 15).
"""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

SH_C0 = 0.28209479177387814
"""The constant spherical harmonic, 1 / (2 sqrt(pi)); colour = 0.5 + SH_C0 * sh0 (sRGB, display-referred)."""


@dataclass(frozen=True)
class Splats:
    """N Gaussians in world units; quaternions are wxyz and need not be normalised."""

    means: Float[Tensor, "N 3"]
    quats: Float[Tensor, "N 4"]
    log_scales: Float[Tensor, "N 3"]
    logit_opacities: Float[Tensor, " N"]
    sh0: Float[Tensor, "N 1 3"]
    shN: Float[Tensor, "N K 3"]

    def __len__(self) -> int:
        return self.means.shape[0]

    @property
    def scales(self) -> Float[Tensor, "N 3"]:
        """Standard deviations along the Gaussians' own axes, in world units."""
        return self.log_scales.exp()

    @property
    def opacities(self) -> Float[Tensor, " N"]:
        return self.logit_opacities.sigmoid()

    @property
    def rotations(self) -> Float[Tensor, "N 3 3"]:
        """Matrices whose columns are the Gaussians' own axes in the world."""
        w, x, y, z = torch.nn.functional.normalize(self.quats, dim=-1).unbind(-1)
        rows = [
            torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
            torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
            torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
        ]
        return torch.stack(rows, dim=-2)

    @property
    def covariances(self) -> Float[Tensor, "N 3 3"]:
        axes = self.rotations * self.scales[:, None, :]
        return axes @ axes.transpose(1, 2)

    @property
    def sh_degree(self) -> int:
        """0 to 3, read from the number of stored coefficients."""
        return {0: 0, 3: 1, 8: 2, 15: 3}[self.shN.shape[1]]

    def parameters(self) -> dict[str, Tensor]:
        """The stored tensors by name, in the order in which they are declared."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def map(self, function) -> "Splats":
        """A cloud whose every stored tensor is `function(tensor)`."""
        return Splats(**{name: function(value) for name, value in self.parameters().items()})

    def take(self, rows: Int[Tensor, " M"]) -> "Splats":
        """The chosen rows, repeats allowed: the one primitive on which pruning, cloning and splitting are built."""
        return self.map(lambda value: value[rows])

    def detach(self) -> "Splats":
        return self.map(Tensor.detach)

    def to(self, *args, **kwargs) -> "Splats":
        return self.map(lambda value: value.to(*args, **kwargs))

    def requires_grad(self) -> "Splats":
        """Leaves that share no memory with this cloud and collect gradients."""
        return self.map(lambda value: value.detach().clone().requires_grad_(True))

    def replace(self, **changes: Tensor) -> "Splats":
        return replace(self, **changes)


def concatenate(clouds: list[Splats]) -> Splats:
    """One cloud of all the rows, in order; all must have the same spherical-harmonics degree."""
    names = clouds[0].parameters()
    return Splats(**{name: torch.cat([getattr(cloud, name) for cloud in clouds]) for name in names})


def sh0_from_colours(colours: Float[Tensor, "N 3"]) -> Float[Tensor, "N 1 3"]:
    """The constant coefficients that show `colours` in [0, 1] from every side."""
    return ((colours - 0.5) / SH_C0)[:, None, :]


def colours_from_sh0(sh0: Float[Tensor, "N 1 3"]) -> Float[Tensor, "N 3"]:
    """View-independent colours, not below 0 (gsplat clamps there too; above 1 is left to the display)."""
    return (0.5 + SH_C0 * sh0[:, 0, :]).clamp_min(0.0)


def logit(probabilities: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The inverse of the sigmoid, kept finite for 0 and 1."""
    return torch.logit(probabilities, eps=1e-6)
