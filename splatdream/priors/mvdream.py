"""MVDream's public weights in the stock UNet: cameras as a class embedding, attention across four views of an object.

Its folder is an ordinary one but for the UNet, which bears the names of the original code (`input_blocks.1.0...`); here
each of them gets the name that diffusers gives the same layer.
"""

from collections.abc import Iterator
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import normalize

from splatdream.cameras import Cameras
from splatdream.contracts import Embedding
from splatdream.priors.folder import REFETCH, Folder, first_line
from splatdream.priors.multi_view import VIEWS, Together
from splatdream.priors.sd import StableDiffusion

RESNET = {
    "in_layers.0.": "norm1.",
    "in_layers.2.": "conv1.",
    "emb_layers.1.": "time_emb_proj.",
    "out_layers.0.": "norm2.",
    "out_layers.3.": "conv2.",
    "skip_connection.": "conv_shortcut.",
}
ENDS = {
    "time_embed.0.": "time_embedding.linear_1.",
    "time_embed.2.": "time_embedding.linear_2.",
    "camera_embed.0.": "class_embedding.linear_1.",
    "camera_embed.2.": "class_embedding.linear_2.",
    "input_blocks.0.0.": "conv_in.",
    "out.0.": "conv_norm_out.",
    "out.2.": "conv_out.",
}


class MVDream:
    group = VIEWS
    """Views of a batch that belong together, and are asked about as one."""

    def __init__(self, folder: Folder) -> None:
        self.network: Any = unet_of(folder)
        self.plain = Together(StableDiffusion(folder, self.network), VIEWS)
        self.pipeline, self.windows = self.plain.pipeline, self.plain.windows
        self.kind, self.schedule = self.plain.kind, self.plain.schedule

    def embed(self, texts: tuple[str, ...], negative: bool) -> Embedding:
        return self.plain.embed(texts, negative)

    def cameras(self, cameras: Cameras) -> Float[Tensor, "B 16"] | None:
        """Camera-to-world matrices with OpenGL's camera axes in a world of z up, from a distance of 1."""
        worlds = torch.linalg.inv_ex(cameras.viewmats).inverse  # `inv` would wait for the device
        worlds[:, :3, 1:3] *= -1.0  # y up and z backwards
        worlds[:, :3, 3] = normalize(worlds[:, :3, 3], dim=-1)
        return worlds.flatten(1)

    def told(self, embedding: Embedding) -> dict[str, Any]:
        return self.plain.told(embedding)

    def answer(self, latents: Float[Tensor, "B C h w"], timesteps: Int[Tensor, " B"], embedding: Embedding) -> Tensor:
        """ValueError where the views make no whole groups."""
        if len(latents) % self.group:
            raise ValueError(f"MVDream sees {self.group} views of an object at a time: set views=4 or 8")
        return self.plain.answer(latents, timesteps, embedding)


def unet_of(folder: Folder) -> UNet2DConditionModel:
    """The stock UNet with the folder's weights. Errors are those of `Folder.model`."""
    folder.class_name("unet", "MultiViewUNetModel")
    config = folder.config("unet")
    unet = stock_unet(config)
    half = folder.variant("unet")
    pattern = f"*.{half}.safetensors" if half else "*.safetensors"
    names = dict(renamings(config))
    try:
        files = [load_file(path) for path in sorted((folder.path / "unet").glob(pattern))]
        weights = {renamed(key, names): value for file in files for key, value in file.items()}
        missing, unexpected = unet.load_state_dict(weights, strict=False)
    except Exception as error:
        raise ValueError(f"{folder.path / 'unet'} is no MVDream UNet: {first_line(error)}; {REFETCH}") from error
    folder.check("unet", unet, {"missing_keys": missing, "unexpected_keys": unexpected, "mismatched_keys": []})
    network: Any = unet
    return network.to(folder.dtype).requires_grad_(False).eval()


def stock_unet(config: dict[str, Any]) -> UNet2DConditionModel:
    """diffusers' UNet of the shape that the original's numbers describe."""
    widths = [config["model_channels"] * factor for factor in config["channel_mult"]]
    attends = attending(config)
    return UNet2DConditionModel(
        sample_size=config["image_size"],
        in_channels=config["in_channels"],
        out_channels=config["out_channels"],
        block_out_channels=tuple(widths),
        layers_per_block=config["num_res_blocks"],
        down_block_types=tuple("CrossAttnDownBlock2D" if each else "DownBlock2D" for each in attends),
        up_block_types=tuple("CrossAttnUpBlock2D" if each else "UpBlock2D" for each in reversed(attends)),
        cross_attention_dim=config["context_dim"],
        transformer_layers_per_block=config.get("transformer_depth", 1),
        attention_head_dim=tuple(width // config["num_head_channels"] for width in widths),  # heads, by its old name
        use_linear_projection=True,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=config["camera_dim"],
    )


def attending(config: dict[str, Any]) -> list[bool]:
    """Of each level, whether it has attention."""
    return [2**level in config["attention_resolutions"] for level in range(len(config["channel_mult"]))]


def renamings(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The beginning of every name, theirs and diffusers'; the original counts its blocks through all levels."""
    attends, layers = attending(config), config["num_res_blocks"]
    last = len(attends) - 1
    yield from ENDS.items()
    yield from resnet("middle_block.0.", "mid_block.resnets.0.")
    yield "middle_block.1.", "mid_block.attentions.0."
    yield from resnet("middle_block.2.", "mid_block.resnets.1.")
    down, up = 1, 0
    for level, attention in enumerate(attends):
        for layer in range(layers):
            yield from resnet(f"input_blocks.{down}.0.", f"down_blocks.{level}.resnets.{layer}.")
            if attention:
                yield f"input_blocks.{down}.1.", f"down_blocks.{level}.attentions.{layer}."
            down += 1
        if level < last:
            yield f"input_blocks.{down}.0.op.", f"down_blocks.{level}.downsamplers.0.conv."
            down += 1
    for level, attention in enumerate(reversed(attends)):
        for layer in range(layers + 1):
            yield from resnet(f"output_blocks.{up}.0.", f"up_blocks.{level}.resnets.{layer}.")
            if layer == layers and level < last:
                yield f"output_blocks.{up}.{1 + attention}.conv.", f"up_blocks.{level}.upsamplers.0.conv."
            if attention:
                yield f"output_blocks.{up}.1.", f"up_blocks.{level}.attentions.{layer}."
            up += 1


def resnet(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    return ((theirs + old, ours + new) for old, new in RESNET.items())


def renamed(key: str, names: dict[str, str]) -> str:
    """The key with its beginning exchanged; one that nothing is known of stays, and is then found to be too many."""
    for old, new in names.items():
        if key.startswith(old):
            return new + key[len(old) :]
    return key
