"""Numbers for how far pictures of a result are from pictures of the truth: same cameras, B views of H x W pixels.

Colours are compared over mid-grey. Masks are opacities above one half.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

GREY = 0.5


def silhouette_iou(alphas: Float[Tensor, "B H W 1"], true_alphas: Float[Tensor, "B H W 1"]) -> float:
    """Intersection over union of the two masks, over all views together; 1 where both are empty."""
    seen, true = alphas > 0.5, true_alphas > 0.5
    union = int((seen | true).sum())
    return int((seen & true).sum()) / union if union else 1.0


def psnr(images: Float[Tensor, "B H W 3"], truth: Float[Tensor, "B H W 3"], mask: Bool[Tensor, "B H W 1"]) -> float:
    """Peak signal-to-noise ratio in dB over the masked pixels of all views together, at most 60."""
    squares = (images.clamp(0, 1) - truth).square().mean(-1, keepdim=True)
    error = float(squares[mask].mean()) if bool(mask.any()) else 0.0
    return min(60.0, -10.0 * torch.tensor(max(error, 1e-12)).log10().item())


def lab(colours: Float[Tensor, "*any 3"]) -> Float[Tensor, "*any 3"]:
    """CIE L*a*b* of sRGB colours (D65)."""
    linear = torch.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055).clamp_min(0) ** 2.4)
    to_xyz = torch.tensor(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    ).to(colours)
    xyz = linear @ to_xyz.T / torch.tensor([0.95047, 1.0, 1.08883]).to(colours)
    f = torch.where(xyz > 216 / 24389, xyz.clamp_min(1e-9) ** (1 / 3), (24389 / 27 * xyz + 16) / 116)
    return torch.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def colour_error(
    images: Float[Tensor, "B H W 3"], truth: Float[Tensor, "B H W 3"], mask: Bool[Tensor, "B H W 1"]
) -> float:
    """Mean CIE76 difference where both objects are; about 2 is just noticeable. 100 where they never meet."""
    if not bool(mask.any()):
        return 100.0
    difference = (lab(images.clamp(0, 1)) - lab(truth.clamp(0, 1))).norm(dim=-1, keepdim=True)
    return float(difference[mask].mean())


def saturation(images: Float[Tensor, "B H W 3"], mask: Bool[Tensor, "B H W 1"]) -> float:
    """Mean distance between the strongest and the weakest channel inside the mask, in [0, 1]."""
    spread = images.clamp(0, 1).amax(-1, keepdim=True) - images.clamp(0, 1).amin(-1, keepdim=True)
    return float(spread[mask].mean()) if bool(mask.any()) else 0.0


def sharpness(images: Float[Tensor, "B H W 3"]) -> float:
    """Mean absolute difference of neighbouring pixels: detail, and noise too."""
    images = images.clamp(0, 1)
    return float(0.5 * (images.diff(dim=1).abs().mean() + images.diff(dim=2).abs().mean()))


def comparison(
    premultiplied: Float[Tensor, "B H W 3"],
    alphas: Float[Tensor, "B H W 1"],
    true_premultiplied: Float[Tensor, "B H W 3"],
    true_alphas: Float[Tensor, "B H W 1"],
) -> dict[str, float]:
    """All of the above for colours premultiplied over black; saturation and sharpness relative to the truth."""
    images = premultiplied + (1 - alphas) * GREY
    truth = true_premultiplied + (1 - true_alphas) * GREY
    seen, true = alphas > 0.5, true_alphas > 0.5
    return {
        "iou": silhouette_iou(alphas, true_alphas),
        "psnr": psnr(images, truth, seen | true),
        "psnr_full": psnr(images, truth, torch.ones_like(seen)),
        "colour_error": colour_error(images, truth, seen & true),
        "saturation": saturation(images, seen) / max(saturation(truth, true), 1e-3),
        "sharpness": sharpness(images) / max(sharpness(truth), 1e-6),
    }
