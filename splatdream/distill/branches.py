"""Several embeddings, one call: rules that compare more texts than the prompt and its negative."""

from functools import reduce
from operator import add

from jaxtyping import Float, Int
from torch import Tensor

from splatdream.contracts import Embedding, Prior
from splatdream.schedule import Prediction


def branches(
    prior: Prior, x_t: Float[Tensor, "B C h w"], timesteps: Int[Tensor, " B"], *embeddings: Embedding
) -> list[Prediction]:
    """The prior's answer at the same x_t to each embedding, in their order."""
    count = len(embeddings)
    answer = prior.predict(x_t.repeat(count, 1, 1, 1), timesteps.repeat(count), reduce(add, embeddings))
    alpha, sigma = answer.alpha[: len(x_t)], answer.sigma[: len(x_t)]
    return [Prediction(answer.kind, value, x_t, alpha, sigma) for value in answer.value.chunk(count)]
