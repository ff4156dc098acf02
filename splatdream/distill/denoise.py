"""Guided denoising in a few steps, and the pictures that come of it as a view would show them."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from splatdream.contracts import Condition, Prior, View
from splatdream.guidance import guided
from splatdream.schedule import ddim_step


def denoised(
    prior: Prior,
    x_t: Float[Tensor, "B C h w"],
    timesteps: Int[Tensor, " B"],
    condition: Condition,
    *,
    guidance_scale: float,
    steps: int,
) -> Float[Tensor, "B C h w"]:
    """The clean latents that `steps` guided DDIM steps, evenly spaced from each sample's timestep, lead to."""
    for k in range(steps - 1):
        now = timesteps * (steps - k) // steps
        after = timesteps * (steps - k - 1) // steps
        x_t = ddim_step(prior.schedule, guided(prior, x_t, now, condition, guidance_scale), after)
    return guided(prior, x_t, timesteps // steps, condition, guidance_scale).x0


def pictures(prior: Prior, latents: Float[Tensor, "B C h w"], view: View) -> Float[Tensor, "B H W 3"]:
    """Decoded, within [0, 1] and of the view's size: a coarse render was enlarged for the prior."""
    images = prior.decode(latents).clamp(0, 1)
    height, width = view.images.shape[1:3]
    if images.shape[1:3] == (height, width):
        return images
    resized = interpolate(images.permute(0, 3, 1, 2), (height, width), mode="bilinear", antialias=True)
    return resized.permute(0, 2, 3, 1)
