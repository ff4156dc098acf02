"""How many views go through a network at once: fewer after each time that the memory was too small.

Views do not see one another in an autoencoder, nor (but for their groups) in a network, so that portions give the same
answers and the same gradient, only later. On a processor the views of a portion are shared out among torch's threads.
"""

import warnings
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from splatdream.priors.shares import Value, at_once, shares


class Portions:
    """`views` at once, None for all; `group` of them belong together and are never parted.

    `threaded` shares them out among torch's threads, as serves a processor.
    """

    def __init__(self, views: int | None = None, group: int = 1, *, threaded: bool = False) -> None:
        self.group, self.threaded = group, threaded
        self.views = None if views is None else max(views // group, 1) * group
        self.spare: Callable[[], bool] = lambda: False
        """Frees memory at the cost of time; False where none is left to be freed so."""

    def of(self, count: int) -> list[slice]:
        views = self.views or max(count, 1)
        return [slice(first, min(first + views, count)) for first in range(0, count, views)]

    def spread(self, function: Callable[[slice], Value], rows: slice) -> list[Value]:
        """What `function` says of one portion, share by share."""
        return at_once(function, shares(rows, self.group, torch.get_num_threads() if self.threaded else 1))

    def shrink(self, count: int, error: RuntimeError) -> None:
        """Half as many as there were, once nothing else can be spared.

        The error itself where it is no want of memory; MemoryError where nothing smaller is left.
        """
        if not out_of_memory(error):
            raise error
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if self.spare():
            warnings.warn("out of memory: the encoder computes its blocks again from now on", stacklevel=2)
            return
        views = min(self.views or count, count)
        if views <= self.group:
            raise MemoryError(
                f"the memory is too small for the prior even with views one by one ({str(error).splitlines()[0]}); "
                "take a smaller prior, or a tiny encoder for it"
            ) from error
        self.views = max(views // 2 // self.group, 1) * self.group
        warnings.warn(f"out of memory with {views} views at once: going on with {self.views}", stacklevel=2)

    def apply(self, function: Callable[[slice], Tensor], count: int) -> Tensor:
        """What `function` says of all rows, portion by portion."""
        while True:
            try:
                return joined([piece for rows in self.of(count) for piece in self.spread(function, rows)])
            except RuntimeError as error:
                self.shrink(count, error)


def joined(pieces: list[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def out_of_memory(error: RuntimeError) -> bool:
    """CUDA's error has a class of its own, the CPU's only words."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def encoded(
    images: Float[Tensor, "B *rest"], function: Callable[[Tensor], Tensor], portions: Portions
) -> Float[Tensor, "B *other"]:
    """`function(images)` with its gradient, in portions where need be: then each is done again for the gradient."""
    return _Encoded.apply(images, function, portions)  # type: ignore[return-value]


class _Encoded(torch.autograd.Function):
    """In one portion it keeps the graphs, as autograd does; in more it keeps the images alone."""

    @staticmethod
    def forward(ctx, images, function, portions):
        ctx.function, ctx.portions, ctx.graphs = function, portions, None
        ctx.save_for_backward(images)
        count = len(images)
        if ctx.needs_input_grad[0] and len(portions.of(count)) == 1:
            try:
                ctx.graphs = portions.spread(lambda rows: _with_graph(function, images[rows]), slice(0, count))
                return joined([latents.detach() for _, latents in ctx.graphs])
            except RuntimeError as error:
                portions.shrink(count, error)
        return portions.apply(lambda rows: function(images[rows]), count)

    @staticmethod
    def backward(ctx, *gradients):
        (gradient,) = gradients
        (images,) = ctx.saved_tensors
        if ctx.graphs is not None:
            graphs, ctx.graphs = ctx.graphs, None
            pieces = gradient.split([len(leaf) for leaf, _ in graphs])
            try:
                return joined(at_once(_pulled_back, list(zip(graphs, pieces, strict=True)))), None, None
            except RuntimeError as error:
                graphs.clear()
                ctx.portions.shrink(len(images), error)

        def of(rows: slice) -> Tensor:
            return _pulled_back((_with_graph(ctx.function, images[rows]), gradient[rows]))

        return ctx.portions.apply(of, len(images)), None, None


def learning(
    weights: list[Tensor], function: Callable[[list[Tensor], slice], Tensor], count: int, portions: Portions
) -> Float[Tensor, "B *other"]:
    """`function(weights, rows)` of all `count` rows with the gradient of the weights, in portions where need be."""
    if not torch.is_grad_enabled():
        return portions.apply(lambda rows: function(weights, rows), count)
    return _Learning.apply(function, count, portions, *weights)  # type: ignore[return-value]


class _Learning(torch.autograd.Function):
    """In one portion it keeps the graph; in more the weights alone, and sums what each portion says of them."""

    @staticmethod
    def forward(ctx, function, count, portions, *weights):
        ctx.function, ctx.count, ctx.portions, ctx.graph = function, count, portions, None
        ctx.save_for_backward(*weights)
        if len(portions.of(count)) == 1:
            try:
                ctx.graph = _with_graph_of(function, weights, slice(0, count))
                return ctx.graph[1].detach()
            except RuntimeError as error:
                portions.shrink(count, error)
        return portions.apply(lambda rows: function([*weights], rows), count)

    @staticmethod
    def backward(ctx, *gradients):
        (gradient,) = gradients
        weights, graph = ctx.saved_tensors, ctx.graph
        if graph is not None:
            ctx.graph = None
            try:
                return None, None, None, *torch.autograd.grad(graph[1], graph[0], gradient)
            except RuntimeError as error:
                graph = None
                ctx.portions.shrink(ctx.count, error)

        def of(rows: slice) -> Tensor:
            leaves, answer = _with_graph_of(ctx.function, weights, rows)
            found = torch.autograd.grad(answer, leaves, gradient[rows])
            return torch.cat([value.flatten() for value in found])[None]  # a row a portion

        summed = ctx.portions.apply(of, ctx.count).sum(0).split([weight.numel() for weight in weights])
        return None, None, None, *(part.reshape(weight.shape) for part, weight in zip(summed, weights, strict=True))


def _with_graph_of(
    function: Callable[[list[Tensor], slice], Tensor], weights: Sequence[Tensor], rows: slice
) -> tuple[list[Tensor], Tensor]:
    """Leaves of the weights and what the function makes of them."""
    with torch.enable_grad():
        leaves = [weight.detach().requires_grad_() for weight in weights]
        return leaves, function(leaves, rows)


Graph = tuple[Tensor, Tensor]
"""A leaf and what a function made of it."""


def _with_graph(function: Callable[[Tensor], Tensor], images: Tensor) -> Graph:
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        return leaf, function(leaf)


def _pulled_back(given: tuple[Graph, Tensor]) -> Tensor:
    """The gradient of the leaf, where that of what was made of it is given."""
    (leaf, latents), gradient = given
    return torch.autograd.grad(latents, leaf, gradient)[0]
