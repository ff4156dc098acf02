"""Classifier-free guidance, defined once (Ho & Salimans 2022): uncond + guidance_scale * (cond - uncond).

What a `Condition` adds to it also stands here: Perp-Neg (Armandpour et al. 2023) turns the direction away from further
words, and rescaling (Lin et al. 2023) keeps a large scale from stretching the answer.
"""

from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splatdream.contracts import Condition, Embedding, Prior
from splatdream.schedule import Prediction, per_sample


@dataclass(frozen=True)
class Answers:
    """What a prior says at one x_t to the prompt, to the negative prompt and to what else was asked, in its own kind.

    `turned` is the answer to the prompt, turned away from the condition's negatives: `cond` itself where it has none.
    """

    cond: Prediction
    uncond: Prediction
    turned: Prediction
    others: tuple[Prediction, ...]
    rescale: float

    def guided(self, guidance_scale: float) -> Prediction:
        value = self.uncond.value + guidance_scale * (self.turned.value - self.uncond.value)
        if self.rescale:
            value = rescaled(value, self.cond.value, self.rescale)
        return replace(self.cond, value=value)


def answers(
    prior: Prior,
    x_t: Float[Tensor, "B C h w"],
    timesteps: Int[Tensor, " B"],
    condition: Condition,
    *others: Embedding,
) -> Answers:
    """All answers of one call: two evaluations, one more for each of the condition's negatives and of `others`."""
    negatives = [negative for negative in condition.negatives if negative.weights.any()]
    told = [condition.cond, condition.uncond, *others, *(negative.embedding for negative in negatives)]
    answer = prior.predict(torch.cat([x_t] * len(told)), torch.cat([timesteps] * len(told)), reduce(add, told))
    alpha, sigma = answer.alpha[: len(x_t)], answer.sigma[: len(x_t)]
    said = [Prediction(answer.kind, value, x_t, alpha, sigma) for value in answer.value.chunk(len(told))]
    cond, uncond, *rest = said
    turned = cond.value
    for negative, other in zip(negatives, rest[len(others) :], strict=True):
        away = perpendicular(other.value - uncond.value, cond.value - uncond.value)
        turned = turned + per_sample(negative.weights, away) * away
    return Answers(cond, uncond, replace(cond, value=turned), tuple(rest[: len(others)]), condition.rescale)


def guided(
    prior: Prior,
    x_t: Float[Tensor, "B C h w"],
    timesteps: Int[Tensor, " B"],
    condition: Condition,
    guidance_scale: float,
) -> Prediction:
    """The guided prediction, in the prior's native kind (guidance and Perp-Neg are the same in each).

    Scale 1 is the conditional prediction and 0 the unconditional one: one evaluation. Others take two, in one call, and
    one more for each of the condition's negatives, which also turn scale 1. Rescaling changes neither of the two.
    """
    if guidance_scale == 1.0 and not any(negative.weights.any() for negative in condition.negatives):
        return prior.predict(x_t, timesteps, condition.cond)
    if guidance_scale == 0.0:
        return prior.predict(x_t, timesteps, condition.uncond)
    return answers(prior, x_t, timesteps, condition).guided(guidance_scale)


def perpendicular(u: Float[Tensor, "B *rest"], v: Float[Tensor, "B *rest"]) -> Float[Tensor, "B *rest"]:
    """What is left of each sample of u without its part along v; all of it where v is zero."""
    along = (u * v).flatten(1).sum(1) / v.square().flatten(1).sum(1).clamp_min(torch.finfo(v.dtype).tiny)
    return u - per_sample(along, v) * v


def rescaled(value: Float[Tensor, "B *rest"], cond: Float[Tensor, "B *rest"], phi: float) -> Float[Tensor, "B *rest"]:
    """`value` with the part `phi` of it brought to the deviation of `cond`, per sample (Lin et al., eqs. 15 and 16)."""
    spread = value.flatten(1).std(1).clamp_min(torch.finfo(value.dtype).tiny)
    factor = phi * cond.flatten(1).std(1) / spread + (1.0 - phi)
    return per_sample(factor, value) * value
