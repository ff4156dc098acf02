"""Schedule: how a prior adds noise, and the algebra between what it may predict.

x_t = alphas[t] x_0 + sigmas[t] noise, t = 0 clean. T train timesteps. A prediction is one of
    epsilon   the noise;           sample        x_0;
    v         alpha eps - sigma x_0 (Salimans & Ho 2022, appendix D);
    flow      noise - x_0, the velocity of the straight path x_s = (1 - s) x_0 + s noise (Liu et al. 2023).
A straight path is kept rescaled to alphas^2 + sigmas^2 = 1, so that one rule serves every prior:
s = sigma / (alpha + sigma), x_s = x_t / (alpha + sigma).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Kind = Literal["epsilon", "sample", "v_prediction", "flow"]


def per_sample(values: Float[Tensor, " B"], like: Float[Tensor, "B *rest"]) -> Tensor:
    """`values` shaped to multiply `like` row by row."""
    return values.reshape(-1, *([1] * (like.ndim - 1)))


@dataclass(frozen=True)
class Schedule:
    """Tables of signal and noise, one entry per train timestep; alphas[t]^2 + sigmas[t]^2 = 1."""

    alphas: Float[Tensor, " T"]
    sigmas: Float[Tensor, " T"]

    @classmethod
    def from_alphas_cumprod(cls, alphas_cumprod: Float[Tensor, " T"]) -> "Schedule":
        """From diffusers' table, kept in float64 until the roots are taken."""
        alphas_cumprod = alphas_cumprod.double()
        return cls(alphas_cumprod.sqrt().float(), (1.0 - alphas_cumprod).clamp_min(0.0).sqrt().float())

    @classmethod
    def from_flow(cls, s: Float[Tensor, " T"]) -> "Schedule":
        """From the shares of noise of a straight path, ascending."""
        s = s.double()
        length = (s.square() + (1.0 - s).square()).sqrt()
        return cls(((1.0 - s) / length).float(), (s / length).float())

    def __len__(self) -> int:
        return len(self.alphas)

    def to(self, device: str | torch.device) -> "Schedule":
        return Schedule(self.alphas.to(device), self.sigmas.to(device))

    def at(self, timesteps: Int[Tensor, " B"], like: Float[Tensor, "B *rest"]) -> tuple[Tensor, Tensor]:
        """alpha and sigma of each sample, shaped to multiply `like`."""
        alphas = self.alphas.to(like.device, like.dtype)[timesteps]
        sigmas = self.sigmas.to(like.device, like.dtype)[timesteps]
        return per_sample(alphas, like), per_sample(sigmas, like)

    def add_noise(
        self, latents: Float[Tensor, "B *rest"], noise: Float[Tensor, "B *rest"], timesteps: Int[Tensor, " B"]
    ) -> Float[Tensor, "B *rest"]:
        alpha, sigma = self.at(timesteps, latents)
        return alpha * latents + sigma * noise

    def index(self, fraction: float) -> int:
        """The timestep nearest to a fraction of the noise range, inside the table."""
        return min(max(round(fraction * len(self)), 0), len(self) - 1)


@dataclass(frozen=True)
class Prediction:
    """What a prior answered at x_t, in its native kind, converted on demand."""

    kind: Kind
    value: Float[Tensor, "B *rest"]
    x_t: Float[Tensor, "B *rest"]
    alpha: Tensor
    sigma: Tensor

    @property
    def eps(self) -> Float[Tensor, "B *rest"]:
        """The predicted noise. ValueError where sigma = 0 hides it from a prior that predicts x_0."""
        if self.kind == "epsilon":
            return self.value
        if self.kind == "v_prediction":
            return self.alpha * self.value + self.sigma * self.x_t
        if self.kind == "flow":
            return (self.x_t + self.alpha * self.value) / (self.alpha + self.sigma)
        if bool((self.sigma == 0).any()):
            raise ValueError("the noise cannot be told at sigma = 0; ask at a later timestep")
        return (self.x_t - self.alpha * self.value) / self.sigma

    @property
    def x0(self) -> Float[Tensor, "B *rest"]:
        """The predicted clean latents. ValueError where alpha = 0 and the prior answers in eps."""
        if self.kind == "sample":
            return self.value
        if self.kind == "v_prediction":
            return self.alpha * self.x_t - self.sigma * self.value
        if self.kind == "flow":
            return (self.x_t - self.sigma * self.value) / (self.alpha + self.sigma)
        if bool((self.alpha == 0).any()):
            raise ValueError(
                "an eps-prediction says nothing about x_0 where alpha = 0 (zero terminal SNR); "
                "keep t below the last timestep or use a prior that predicts v"
            )
        return (self.x_t - self.sigma * self.value) / self.alpha

    @property
    def v(self) -> Float[Tensor, "B *rest"]:
        if self.kind == "v_prediction":
            return self.value
        return self.alpha * self.eps - self.sigma * self.x0


def ddim_timesteps(steps: int, T: int, start: float = 1.0) -> list[int]:
    """`steps` descending timesteps from `start * T` to near 0, evenly spaced (trailing spacing: Lin et al. 2023)."""
    return [max(round(start * T * (steps - i) / steps) - 1, 0) for i in range(steps)]


def ddim_step(schedule: Schedule, prediction: Prediction, timesteps: Int[Tensor, " B"]) -> Float[Tensor, "B *rest"]:
    """x at the earlier `timesteps` by the deterministic DDIM update (Song et al. 2021, eq. 12); clean is `.x0`."""
    return schedule.add_noise(prediction.x0, prediction.eps, timesteps)
