"""The judges: a scorer of picture and caption, and a classifier of the side that a picture shows.

As in CLIP, a tower for pictures and one for captions meet in one space; here its axes have names, the values of the
corpus's attributes. The picture's tower says how probable each value looks, the caption's tower which ones are meant.
Trained on the corpus, never used in optimisation. Pictures are looked at in 96 x 96 pixels.
"""

import json
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import interpolate, silu

from splatdream.corpus.attributes import ATTRIBUTES

SIDES = ("front", "side", "back")
LOOK = 96
WINDOW = 40
SIZES = [len(values) for values in ATTRIBUTES.values()]
DOUBT = 0.001
"""The least probability of a value, so that one look that is sure and wrong does not outweigh all the others."""


class Residual(nn.Module):
    """Two convolutions beside a shortcut (He et al. 2016); `stride` 2 halves height and width."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, padding=1),
            nn.GroupNorm(8, outside),
            nn.SiLU(),
            nn.Conv2d(outside, outside, 3, padding=1),
            nn.GroupNorm(8, outside),
        )
        same = nn.Identity() if inside == outside else nn.Conv2d(inside, outside, 1)
        self.shortcut = nn.Sequential(nn.AvgPool2d(stride), same)

    def forward(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D H W"]:
        return silu(self.convolutions(features) + self.shortcut(features))


class Eye(nn.Module):
    """Pictures (B H W 3) in [0, 1] to one vector each; it reads 6 x 6 cells, so where things are is kept."""

    def __init__(self, width: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, padding=1),
            nn.GroupNorm(8, width),
            nn.SiLU(),
            Residual(width, 2 * width, 2),
            Residual(2 * width, 2 * width, 1),
            Residual(2 * width, 4 * width, 2),
            Residual(4 * width, 4 * width, 1),
            Residual(4 * width, 4 * width, 2),
        )
        cells = (LOOK // 16) ** 2
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(cells * 4 * width, hidden), nn.SiLU(), nn.Linear(hidden, outputs)
        )

    def forward(self, images: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B outputs"]:
        pixels = images.permute(0, 3, 1, 2) * 2.0 - 1.0
        if pixels.shape[-1] != LOOK:
            pixels = interpolate(pixels, (LOOK, LOOK), mode="bilinear", antialias=True, align_corners=False)
        return self.head(self.stages(pixels))


class Reader(nn.Module):
    """Word indices (B L) to one vector each: a small transformer over the words and their places."""

    def __init__(self, words: int, width: int, outputs: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words + 1, width, padding_idx=0)
        self.places = nn.Parameter(0.02 * torch.randn(WINDOW, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, outputs)

    def forward(self, indices: Tensor) -> Float[Tensor, "B outputs"]:
        padding = indices == 0
        hidden = self.layers(self.embedding(indices) + self.places[: indices.shape[1]], src_key_padding_mask=padding)
        kept = hidden.masked_fill(padding[..., None], 0.0).sum(1)
        return self.head(kept / (~padding).sum(1, keepdim=True).clamp_min(1))


def by_attribute(outputs: Float[Tensor, "B A"]) -> Float[Tensor, "B A"]:
    """The log probabilities of each attribute's values."""
    return torch.cat([part.log_softmax(1) for part in outputs.split(SIZES, 1)], 1)


class Judge(nn.Module):
    """Scores how well a caption fits a picture, and names the side that a picture shows. A is the sum of `SIZES`."""

    def __init__(self, words: tuple[str, ...]) -> None:
        super().__init__()
        self.words = words
        self.indices = {word: index + 1 for index, word in enumerate(words)}
        self.eye = Eye(32, 384, sum(SIZES))
        self.reader = Reader(len(words), 128, sum(SIZES))
        self.side_eye = Eye(16, 256, len(SIDES))

    def spell(self, captions: list[str]) -> Int[Tensor, "N L"]:
        """The indices of captions' words, padded with zeros. ValueError for a word that it was not taught."""
        rows = []
        for caption in captions:
            words = caption.lower().replace(",", " ").split()
            unknown = [word for word in words if word not in self.indices]
            if unknown:
                raise ValueError(f"the judge does not know {', '.join(map(repr, unknown))}")
            rows.append(([self.indices[word] for word in words] or [0])[:WINDOW])
        indices = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for i, row in enumerate(rows):
            indices[i, : len(row)] = torch.tensor(row)
        return indices.to(self.reader.places.device)

    def read(self, captions: list[str]) -> Float[Tensor, "N A"]:
        """The log probabilities of what each caption means."""
        return by_attribute(self.reader(self.spell(captions)))

    def look(self, images: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B A"]:
        """The log probabilities of what each picture shows."""
        return by_attribute(self.eye(images))

    @torch.no_grad()
    def scores(self, images: Float[Tensor, "B H W 3"], captions: list[str]) -> Float[Tensor, " S"]:
        """The log likelihood of each caption: the mean over the pictures, which show one object from B sides."""
        seen = ((1 - DOUBT) * self.look(images).exp() + DOUBT).log().mean(0)
        return self.read(captions).exp() @ seen

    @torch.no_grad()
    def sides(self, images: Float[Tensor, "B H W 3"]) -> list[str]:
        """The side of its object that each picture seems to show."""
        return [SIDES[index] for index in self.side_eye(images).argmax(1).tolist()]

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: value.half().contiguous() for name, value in self.state_dict().items()}
        save_file(weights, folder / "judge.safetensors")
        (folder / "words.json").write_text(json.dumps(self.words))

    @classmethod
    def load(cls, folder: Path) -> "Judge":
        judge = cls(tuple(json.loads((folder / "words.json").read_text())))
        judge.load_state_dict({k: v.float() for k, v in load_file(folder / "judge.safetensors").items()})
        return judge.eval().requires_grad_(False)
