"""The interfaces between the parts: read this file first.

Letters, used everywhere:
    N   Gaussians            B   views               H W  image height and width
    C h w  latent channels, height, width            D   composited feature channels
    K   spherical-harmonics bases beyond the constant    T   train timesteps of the prior

Conventions: images are `B H W 3` in [0, 1]; latents are `B C h w`; t = 0 is clean; quaternions are wxyz; world and
camera axes are in `cameras.py`; a name in the plural is batched.
"""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splatdream.cameras import Cameras
from splatdream.schedule import Prediction, Schedule
from splatdream.splats import Splats


@dataclass(frozen=True)
class Render:
    """What a renderer returns for B views.

    `features` holds the colours in its first three channels and any extra channels behind them, composited over the
    background. `depths` is the expected depth along the camera's z, sum(w z) / sum(w), and 0 where nothing is hit.
    `screen` is a leaf or an intermediate tensor whose `.grad`, after backward, is the gradient of the loss with
    respect to the Gaussians' screen positions in pixels (gsplat's `means2d.grad`); `radii` are screen extents in
    pixels, 0 where a Gaussian is not drawn.
    """

    features: Float[Tensor, "B H W D"]
    alphas: Float[Tensor, "B H W 1"]
    depths: Float[Tensor, "B H W 1"]
    screen: Float[Tensor, "B N 2"]
    radii: Int[Tensor, "B N 2"]

    @property
    def images(self) -> Float[Tensor, "B H W 3"]:
        return self.features[..., :3]


@runtime_checkable
class Renderer(Protocol):
    """Composites a cloud from every camera; differentiable in all stored parameters, backgrounds and extras."""

    def __call__(
        self,
        splats: Splats,
        cameras: Cameras,
        backgrounds: Float[Tensor, "B 3"] | None = None,
        *,
        extras: Float[Tensor, "N E"] | None = None,
        antialiased: bool = False,
    ) -> Render: ...


@dataclass(frozen=True)
class Embedding:
    """What a prior is told of each view: the words' hidden states and, where the prior takes one, the camera.

    `extras` is what else a kind of prior makes of the words (pooled vectors, a mask), by that kind's own names.
    """

    tokens: Float[Tensor, "B L E"]
    cameras: Float[Tensor, "B 16"] | None = None
    extras: dict[str, Float[Tensor, "B *rest"]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows) -> "Embedding":
        """The chosen views, by anything that keeps the leading axis."""
        cameras = None if self.cameras is None else self.cameras[rows]
        return Embedding(self.tokens[rows], cameras, {name: value[rows] for name, value in self.extras.items()})

    def __add__(self, other: "Embedding") -> "Embedding":
        """The views of both, these first."""
        tokens = torch.cat([self.tokens, other.tokens])
        extras = {name: torch.cat([value, other.extras[name]]) for name, value in self.extras.items()}
        if self.cameras is None or other.cameras is None:
            return Embedding(tokens, extras=extras)
        return Embedding(tokens, torch.cat([self.cameras, other.cameras]), extras)


@dataclass(frozen=True)
class Negative:
    """Words that guidance turns away from, so far as they differ from the prompt; a weight of 0 leaves a view be."""

    embedding: Embedding
    weights: Float[Tensor, " B"]

    def __getitem__(self, rows) -> "Negative":
        """The chosen views, by anything that keeps the leading axis."""
        return Negative(self.embedding[rows], self.weights[rows])


@dataclass(frozen=True)
class Condition:
    """What one step asks of the prior: an embedding per view for the prompt and one for the negative prompt.

    `negatives`, and how far guidance is to be held to the spread of the prompt's own answer (`rescale`, 0 to 1), are
    heeded by `guidance.guided`.
    """

    cond: Embedding
    uncond: Embedding
    negatives: tuple[Negative, ...] = ()
    rescale: float = 0.0

    def __getitem__(self, rows) -> "Condition":
        """The chosen views, by anything that keeps the leading axis."""
        negatives = tuple(negative[rows] for negative in self.negatives)
        return Condition(self.cond[rows], self.uncond[rows], negatives, self.rescale)


@runtime_checkable
class Prior(Protocol):
    """A frozen diffusion model. `image_size` is the height and width it was trained at."""

    schedule: Schedule
    image_size: int

    def condition(self, prompt: str, negative_prompt: str, cameras: Cameras) -> Condition:
        """Embeddings for these cameras; texts are cached."""
        ...

    def encode(self, images: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B C h w"]:
        """Scaled latents, differentiable."""
        ...

    def decode(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B H W 3"]: ...

    def predict(
        self, latents: Float[Tensor, "B C h w"], timesteps: Int[Tensor, " B"], embedding: Embedding
    ) -> Prediction:
        """The native answer at noisy latents, without gradient."""
        ...


def views_together(prior: Prior) -> int:
    """How many views in turn the prior sees at once as one object: 1 unless it says so by its `group`.

    They share a timestep, and are never asked about apart.
    """
    return getattr(prior, "group", 1)


@dataclass(frozen=True)
class View:
    """What a distillation rule sees of one step; `progress` runs from 0 to 1 over the run.

    `condition` answers the two prompts from these cameras; a rule that needs other words asks the prior for them.
    """

    latents: Float[Tensor, "B C h w"]
    noise: Float[Tensor, "B C h w"]
    timesteps: Int[Tensor, " B"]
    condition: Condition
    cameras: Cameras
    backgrounds: Float[Tensor, "B 3"]
    images: Float[Tensor, "B H W 3"]
    progress: float
    prompt: str = ""
    negative_prompt: str = ""


@dataclass(frozen=True)
class Gradient:
    """What a rule asks for: a direction to subtract from the latents, or pictures to move towards, or both.

    Pictures are approached in squared error, `weight` times its half; the loop may take several optimiser steps towards
    the same ones.
    """

    latents: Float[Tensor, "B C h w"] | None = None
    targets: Float[Tensor, "B H W 3"] | None = None
    weight: float = 1.0


RuleState = dict[str, Tensor] | None


@runtime_checkable
class Student(Protocol):
    """A second denoiser beside the prior, which learns what the views look like now; its weights are the caller's."""

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Fresh weights by name, with which it predicts what the prior predicts."""
        ...

    def predict(
        self,
        weights: dict[str, Tensor],
        latents: Float[Tensor, "B C h w"],
        timesteps: Int[Tensor, " B"],
        embedding: Embedding,
        cameras: Cameras,
    ) -> Prediction:
        """The native answer at noisy latents seen from these cameras, differentiable in the weights."""
        ...


@runtime_checkable
class Teacher(Prior, Protocol):
    """A prior that can give a student; not every prior does."""

    def student(self, rank: int) -> Student:
        """A student that differs from the prior by matrices of this rank, and shares the prior's own weights."""
        ...


@runtime_checkable
class Distiller(Protocol):
    """A score-distillation rule: a frozen dataclass of its options.

    What it learns lives in its state: None, or a flat dict of tensors, so that a run can be saved and taken up again.
    """

    def init(self, prior: Prior, generator: torch.Generator) -> RuleState: ...

    def __call__(
        self, view: View, prior: Prior, state: RuleState, generator: torch.Generator
    ) -> tuple[Gradient, RuleState]: ...
