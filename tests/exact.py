"""Priors whose score is known in closed form: the yardstick of every rule.

`FinitePrior` is the exact denoiser of a finite set of pictures. Latents are pixels in [-1, 1]; the "embedding" of a
view is the set itself, one row per picture, so the prior has no weights and its posterior mean is
sum_i p_i(x_t) x_i with p_i proportional to exp(-|x_t - alpha x_i|^2 / (2 sigma^2)).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splatdream.cameras import Cameras
from splatdream.contracts import Condition, Embedding
from splatdream.corpus.truth import Solid, render_truth
from splatdream.schedule import Prediction, Schedule


def cosine_schedule(T: int = 1000) -> Schedule:
    angles = (torch.arange(T, dtype=torch.float64) + 0.5) / T * torch.pi / 2
    return Schedule.from_alphas_cumprod(angles.cos() ** 2)


class FinitePrior:
    """The exact denoiser of what `pictures(cameras)` returns: for each view, a set of L pictures (B L H W 3)."""

    def __init__(self, pictures, image_size: int, empty=None) -> None:
        self.pictures, self.empty, self.image_size = pictures, empty or pictures, image_size
        self.schedule = cosine_schedule()
        self.evaluations = 0

    def condition(self, prompt: str, negative_prompt: str, cameras: Cameras) -> Condition:
        def rows(pictures: Tensor) -> Tensor:
            return (2.0 * pictures - 1.0).permute(0, 1, 4, 2, 3).flatten(2)

        cond, uncond = rows(self.pictures(cameras)), rows(self.empty(cameras))
        longest = max(cond.shape[1], uncond.shape[1])
        return Condition(Embedding(padded(cond, longest)), Embedding(padded(uncond, longest)))

    def encode(self, images: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B 3 H W"]:
        return 2.0 * images.permute(0, 3, 1, 2) - 1.0

    def decode(self, latents: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B H W 3"]:
        return 0.5 + 0.5 * latents.permute(0, 2, 3, 1)

    def predict(
        self, latents: Float[Tensor, "B C h w"], timesteps: Int[Tensor, " B"], embedding: Embedding
    ) -> Prediction:
        self.evaluations += len(latents)
        alpha, sigma = self.schedule.at(timesteps, latents)
        distances = (latents.flatten(1)[:, None] - alpha.reshape(-1, 1, 1) * embedding.tokens).square().sum(-1)
        posterior = torch.softmax(-0.5 * distances / sigma.reshape(-1, 1) ** 2, dim=1)
        mean = torch.einsum("bl,ble->be", posterior, embedding.tokens).reshape(latents.shape)
        return Prediction("sample", mean, latents, alpha, sigma)


def padded(rows: Tensor, count: int) -> Tensor:
    """`count` rows; the new ones lie so far away that no posterior ever takes them."""
    return torch.cat([rows, rows.new_full((len(rows), count - rows.shape[1], rows.shape[2]), 1e3)], dim=1)


def oracle(solid: Solid, size: int, grey: float = 0.6) -> FinitePrior:
    """Knows what each camera should see: the exact denoiser of the one true picture, over a plain grey."""

    def pictures(cameras: Cameras) -> Tensor:
        truth = render_truth(solid, cameras.resize(size))
        return truth.over(torch.tensor([grey] * 3))[:, None]

    return FinitePrior(pictures, size)
