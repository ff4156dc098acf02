"""MVDream's weights in the stock UNet against a plain network of the original layout, on random weights."""

import json
from math import pi
from pathlib import Path

import pytest
import torch
from families import sd_folder
from safetensors.torch import save_file
from tiny import LATENT_CHANNELS, WIDTH
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, scaled_dot_product_attention

from splatdream import Recipe, dream
from splatdream.cameras import orbit
from splatdream.priors.diffusion import DiffusionPrior
from splatdream.priors.mvdream import MVDream

CONFIG = {
    "_class_name": "MultiViewUNetModel",
    "image_size": 4,
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "model_channels": 32,
    "num_res_blocks": 2,
    "attention_resolutions": [2, 1],
    "channel_mult": [1, 2, 2],
    "num_head_channels": 16,
    "transformer_depth": 1,
    "context_dim": WIDTH,
    "camera_dim": 16,
}


class Resnet(nn.Module):
    def __init__(self, before: int, after: int, time: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(32, before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time, after))
        last = nn.Conv2d(after, after, 3, padding=1)
        self.out_layers = nn.Sequential(nn.GroupNorm(32, after), nn.SiLU(), nn.Identity(), last)
        self.skip_connection = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor, time: Tensor, words: Tensor) -> Tensor:
        inner = self.in_layers(x) + self.emb_layers(time)[..., None, None]
        return self.skip_connection(x) + self.out_layers(inner)


class Attention(nn.Module):
    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.heads = width // CONFIG["num_head_channels"]
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context, width, bias=False)
        self.to_v = nn.Linear(context, width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q, k, v = (
            layer(source).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, source in ((self.to_q, x), (self.to_k, context), (self.to_v, context))
        )
        return self.to_out(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Gated(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 8 * width)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * gelu(gate)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn1, self.attn2 = Attention(width, width), Attention(width, CONFIG["context_dim"])
        self.ff = nn.Module()
        self.ff.net = nn.Sequential(Gated(width), nn.Identity(), nn.Linear(4 * width, width))
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        joined = self.norm1(x).reshape(len(x) // 4, -1, x.shape[-1])  # four views in one picture of the mind
        x = x + self.attn1(joined, joined).reshape(x.shape)
        x = x + self.attn2(self.norm2(x), words)
        return x + self.ff.net(self.norm3(x))


class Transformer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, width, eps=1e-6)
        self.proj_in, self.proj_out = nn.Linear(width, width), nn.Linear(width, width)
        self.transformer_blocks = nn.ModuleList([Block(width)])

    def forward(self, x: Tensor, time: Tensor, words: Tensor) -> Tensor:
        inner = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))
        inner = self.transformer_blocks[0](inner, words)
        return x + self.proj_out(inner).transpose(1, 2).reshape(x.shape)


class Down(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor, time: Tensor, words: Tensor) -> Tensor:
        return self.op(x)


class Up(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor, words: Tensor) -> Tensor:
        return self.conv(interpolate(x, scale_factor=2, mode="nearest"))


class First(nn.Conv2d):
    def forward(self, x: Tensor, *told: Tensor) -> Tensor:
        return super().forward(x)


class Original(nn.Module):
    """MVDream's UNet as its authors name it; what is not needed for `CONFIG` is left out."""

    def __init__(self) -> None:
        super().__init__()
        base, time = CONFIG["model_channels"], 4 * CONFIG["model_channels"]
        self.time_embed = nn.Sequential(nn.Linear(base, time), nn.SiLU(), nn.Linear(time, time))
        self.camera_embed = nn.Sequential(nn.Linear(16, time), nn.SiLU(), nn.Linear(time, time))
        self.input_blocks = nn.ModuleList([nn.ModuleList([First(LATENT_CHANNELS, base, 3, padding=1)])])
        width, kept = base, [base]
        levels = [(2**level in CONFIG["attention_resolutions"], f * base) for level, f in enumerate((1, 2, 2))]
        for level, (attends, wide) in enumerate(levels):
            for _ in range(2):
                layers = [Resnet(width, wide, time), *([Transformer(wide)] if attends else [])]
                self.input_blocks.append(nn.ModuleList(layers))
                width = wide
                kept.append(width)
            if level < 2:
                self.input_blocks.append(nn.ModuleList([Down(width)]))
                kept.append(width)
        middle = [Resnet(width, width, time), Transformer(width), Resnet(width, width, time)]
        self.middle_block = nn.ModuleList(middle)
        self.output_blocks = nn.ModuleList()
        for level, (attends, wide) in reversed(list(enumerate(levels))):
            for i in range(3):
                layers = [Resnet(width + kept.pop(), wide, time), *([Transformer(wide)] if attends else [])]
                width = wide
                self.output_blocks.append(nn.ModuleList([*layers, *([Up(width)] if level and i == 2 else [])]))
        last = nn.Conv2d(width, LATENT_CHANNELS, 3, padding=1)
        self.out = nn.Sequential(nn.GroupNorm(32, width), nn.SiLU(), last)

    def forward(self, x: Tensor, timesteps: Tensor, words: Tensor, cameras: Tensor) -> Tensor:
        half = CONFIG["model_channels"] // 2
        angles = timesteps[:, None] * torch.exp(-torch.arange(half) / half * torch.log(torch.tensor(10000.0)))
        time = self.time_embed(torch.cat([angles.cos(), angles.sin()], dim=1)) + self.camera_embed(cameras)
        kept = []
        for block in self.input_blocks:
            for layer in block:
                x = layer(x, time, words)
            kept.append(x)
        for layer in self.middle_block:
            x = layer(x, time, words)
        for block in self.output_blocks:
            x = torch.cat([x, kept.pop()], dim=1)
            for layer in block:
                x = layer(x, time, words)
        return self.out(x)


@pytest.fixture(scope="module")
def original() -> Original:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Original().requires_grad_(False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, original) -> Path:
    """MVDream's public layout around those weights."""
    path = sd_folder(tmp_path_factory.mktemp("mvdream"))
    index = json.loads((path / "model_index.json").read_text())
    index |= {"_class_name": "MVDreamPipeline", "unet": ["mv_unet", "MultiViewUNetModel"]}
    (path / "model_index.json").write_text(json.dumps(index))
    (path / "unet" / "config.json").write_text(json.dumps(CONFIG))
    save_file(original.state_dict(), path / "unet" / "diffusion_pytorch_model.safetensors")
    return path


@pytest.fixture(scope="module")
def prior(folder) -> DiffusionPrior:
    return DiffusionPrior.load(folder)


def test_the_stock_unet_with_their_weights_answers_as_their_network_does(prior, original) -> None:
    condition = prior.condition("a red mug", "", orbit(8, 32))
    latents = torch.randn(8, LATENT_CHANNELS, 4, 4, generator=torch.Generator().manual_seed(0))
    timesteps = torch.tensor([20, 20, 20, 20, 900, 900, 900, 900])
    expected = original(latents, timesteps, condition.cond.tokens, condition.cond.cameras)
    torch.testing.assert_close(
        prior.predict(latents, timesteps, condition.cond).value, expected, atol=1e-3, rtol=1e-3
    )  # two orders of float32 sums, whose difference is enlarged where a norm sees few values


def test_its_cameras_stand_at_a_distance_of_one_as_the_authors_place_them(prior) -> None:
    """Right, up and backwards in columns, then the place, in a world of z up whose front is -y."""
    for elevation in (0.0, pi / 6):
        told = prior.condition("a red mug", "", orbit(4, 32, elevation=elevation)).cond.cameras
        assert told is not None
        front, side = told.reshape(4, 4, 4)[:2]
        c, s = torch.cos(torch.tensor(elevation)), torch.sin(torch.tensor(elevation))
        expected = torch.tensor([[1, 0, 0, 0], [0, s, -c, -c], [0, c, s, s], [0, 0, 0, 1]])
        torch.testing.assert_close(front, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(side[:3, 3], torch.stack([c, 0 * c, s]), atol=1e-5, rtol=0)


def test_views_that_make_no_group_are_refused(prior) -> None:
    condition = prior.condition("a red mug", "", orbit(3, 32))
    with pytest.raises(ValueError, match="4 views of an object at a time: set views=4 or 8"):
        prior.predict(torch.zeros(3, LATENT_CHANNELS, 4, 4), torch.tensor([5, 5, 5]), condition.cond)


def test_portions_never_part_a_group(prior) -> None:
    condition = prior.condition("a red mug", "", orbit(8, 32))
    latents = torch.randn(8, LATENT_CHANNELS, 4, 4, generator=torch.Generator().manual_seed(0))
    timesteps = torch.full((8,), 500)
    whole = prior.predict(latents, timesteps, condition.cond).value
    prior.portions.views = 4
    torch.testing.assert_close(prior.predict(latents, timesteps, condition.cond).value, whole, atol=1e-5, rtol=1e-5)
    prior.spare_memory()  # which comes before
    with pytest.raises(MemoryError):
        prior.portions.shrink(8, torch.OutOfMemoryError("CUDA out of memory"))
    prior.portions.views = None


def test_a_layer_of_another_name_is_told(folder, original, tmp_path) -> None:
    import shutil

    shutil.copytree(folder, tmp_path / "model")
    weights = original.state_dict()
    weights["input_blocks.9.0.weight"] = weights.pop("out.2.weight")
    save_file(weights, tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(ValueError, match=r"unet lacks conv_out\.weight"):
        DiffusionPrior.load(tmp_path / "model")


def test_a_short_run_follows_it(prior) -> None:
    recipe = Recipe("a red mug", steps=2, views=4, count=30, renderer="dense", device="cpu", distill="recon")
    *_, last = dream(recipe, prior=prior)
    assert isinstance(prior.family, MVDream)
    assert last.residual > 0
    assert bool(last.state.splats.means.isfinite().all())
