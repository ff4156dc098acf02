"""Priors whose score is known in closed form: the yardstick of every rule.

Latents are pixels in [-1, 1], and the "embedding" of a view holds the parameters of the law of its clean latents, so
these priors have no weights. `FinitePrior` is the exact denoiser of a finite set of pictures: a row per picture, and
the posterior mean is sum_i p_i(x_t) x_i with p_i proportional to exp(-|x_t - alpha x_i|^2 / (2 sigma^2)).
`GaussianPrior` is that of pictures scattered about a mean; in `TextPrior` every text means pictures of its own. They
answer in any kind: `kind` says which.
"""

from zlib import crc32

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splatdream.cameras import Cameras
from splatdream.contracts import Condition, Embedding
from splatdream.corpus.truth import Solid, render_truth
from splatdream.schedule import Kind, Prediction, Schedule


def cosine_schedule(T: int = 1000) -> Schedule:
    angles = (torch.arange(T, dtype=torch.float64) + 0.5) / T * torch.pi / 2
    return Schedule.from_alphas_cumprod(angles.cos() ** 2)


class FinitePrior:
    """The exact denoiser of what `pictures(cameras)` returns: for each view, a set of L pictures (B L H W 3)."""

    kind: Kind = "sample"

    def __init__(self, pictures, image_size: int, empty=None) -> None:
        self.pictures, self.empty, self.image_size = pictures, empty or pictures, image_size
        self.schedule = cosine_schedule()
        self.evaluations = 0

    def condition(self, prompt: str, negative_prompt: str, cameras: Cameras) -> Condition:
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
        x0 = self.posterior_mean(latents, alpha, sigma, embedding.tokens.to(latents))
        return spoken(Prediction("sample", x0, latents, alpha, sigma), self.kind)

    def posterior_mean(self, x_t: Tensor, alpha: Tensor, sigma: Tensor, tokens: Float[Tensor, "B L E"]) -> Tensor:
        distances = (x_t.flatten(1)[:, None] - alpha.reshape(-1, 1, 1) * tokens).square().sum(-1)
        posterior = torch.softmax(-0.5 * distances / sigma.reshape(-1, 1) ** 2, dim=1)
        return torch.einsum("bl,ble->be", posterior, tokens).reshape(x_t.shape)


class GaussianPrior(FinitePrior):
    """The exact denoiser of pictures whose latents have one mean and the deviation `spread` in every value."""

    def __init__(self, mean: Float[Tensor, "H W 3"], spread: float) -> None:
        super().__init__(lambda cameras: mean.expand(len(cameras), 1, -1, -1, -1), mean.shape[0])
        self.spread = spread

    def posterior_mean(self, x_t: Tensor, alpha: Tensor, sigma: Tensor, tokens: Float[Tensor, "B 1 E"]) -> Tensor:
        mean = tokens[:, 0].reshape(x_t.shape)
        return mean + alpha * self.spread**2 / (alpha**2 * self.spread**2 + sigma**2) * (x_t - alpha * mean)


class TextPrior(FinitePrior):
    """The exact denoiser of a world where every text means `count` pictures, and a prompt others from each azimuth."""

    def __init__(self, image_size: int = 8, count: int = 3) -> None:
        super().__init__(None, image_size)
        self.count = count

    def condition(self, prompt: str, negative_prompt: str, cameras: Cameras) -> Condition:
        cond = torch.stack([self.meant(f"{prompt}, {azimuth:.3f}") for azimuth in cameras.azimuths.tolist()])
        uncond = self.meant(negative_prompt).expand(cond.shape)
        return Condition(Embedding(rows(cond)), Embedding(rows(uncond)))

    def meant(self, text: str) -> Float[Tensor, "L H W 3"]:
        generator = torch.Generator().manual_seed(crc32(text.encode()))
        return torch.rand(self.count, self.image_size, self.image_size, 3, generator=generator)


def rows(pictures: Float[Tensor, "B L H W 3"]) -> Float[Tensor, "B L E"]:
    """Pictures as flat latents."""
    return (2.0 * pictures - 1.0).permute(0, 1, 4, 2, 3).flatten(2)


def padded(rows: Tensor, count: int) -> Tensor:
    """`count` rows; the new ones lie so far away that no posterior ever takes them."""
    return torch.cat([rows, rows.new_full((len(rows), count - rows.shape[1], rows.shape[2]), 1e3)], dim=1)


def spoken(prediction: Prediction, kind: Kind) -> Prediction:
    """The same answer in another kind."""
    value = {
        "epsilon": lambda: prediction.eps,
        "sample": lambda: prediction.x0,
        "v_prediction": lambda: prediction.v,
        "flow": lambda: prediction.eps - prediction.x0,
    }
    return Prediction(kind, value[kind](), prediction.x_t, prediction.alpha, prediction.sigma)


def oracle(solid: Solid, size: int, grey: float = 0.6) -> FinitePrior:
    """Knows what each camera should see: the exact denoiser of the one true picture, over a plain grey."""

    def pictures(cameras: Cameras) -> Tensor:
        truth = render_truth(solid, cameras.resize(size))
        return truth.over(torch.tensor([grey] * 3))[:, None]

    return FinitePrior(pictures, size)
