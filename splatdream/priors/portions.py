"""How many views go through a network at once: fewer after each time that the memory was too small.

Views do not see one another in an autoencoder, nor (but for their groups) in a network, so that portions give the same
answers and the same gradient, only later.
"""

import warnings
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


class Portions:
    """`views` at once, None for all; `group` of them belong together and are never parted."""

    def __init__(self, views: int | None = None, group: int = 1) -> None:
        self.group = group
        self.views = None if views is None else max(views // group, 1) * group

    def of(self, count: int) -> list[slice]:
        views = self.views or max(count, 1)
        return [slice(first, first + views) for first in range(0, count, views)]

    def shrink(self, count: int, error: RuntimeError) -> None:
        """Half as many as there were. The error itself where it is no want of memory, or nothing smaller is left."""
        if not out_of_memory(error):
            raise error
        views = min(self.views or count, count)
        if views <= self.group:
            raise MemoryError(
                f"the memory is too small for the prior even with views one by one ({str(error).splitlines()[0]}); "
                "take a smaller prior, or a tiny encoder for it"
            ) from error
        self.views = max(views // 2 // self.group, 1) * self.group
        warnings.warn(f"out of memory with {views} views at once: going on with {self.views}", stacklevel=2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def apply(self, function: Callable[[slice], Tensor], count: int) -> Tensor:
        """What `function` says of all rows, portion by portion."""
        while True:
            try:
                pieces = [function(rows) for rows in self.of(count)]
                return pieces[0] if len(pieces) == 1 else torch.cat(pieces)
            except RuntimeError as error:
                self.shrink(count, error)


def out_of_memory(error: RuntimeError) -> bool:
    """CUDA's error has a class of its own, the CPU's only words."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def encoded(
    images: Float[Tensor, "B *rest"], function: Callable[[Tensor], Tensor], portions: Portions
) -> Float[Tensor, "B *other"]:
    """`function(images)` with its gradient, in portions where need be: then each is done again for the gradient."""
    return _Encoded.apply(images, function, portions)  # type: ignore[return-value]


class _Encoded(torch.autograd.Function):
    """In one portion it keeps the graph, as autograd does; in more it keeps the images alone."""

    @staticmethod
    def forward(ctx, images, function, portions):
        ctx.function, ctx.portions, ctx.graph = function, portions, None
        ctx.save_for_backward(images)
        count = len(images)
        if ctx.needs_input_grad[0] and len(portions.of(count)) == 1:
            try:
                ctx.graph = _with_graph(function, images)
                return ctx.graph[1].detach()
            except RuntimeError as error:
                portions.shrink(count, error)
        return portions.apply(lambda rows: function(images[rows]), count)

    @staticmethod
    def backward(ctx, *gradients):
        (gradient,) = gradients
        (images,) = ctx.saved_tensors
        if ctx.graph is not None:
            (leaf, latents), ctx.graph = ctx.graph, None
            try:
                return *torch.autograd.grad(latents, leaf, gradient), None, None
            except RuntimeError as error:
                del leaf, latents
                ctx.portions.shrink(len(images), error)

        def of(rows: slice) -> Tensor:
            leaf, latents = _with_graph(ctx.function, images[rows])
            return torch.autograd.grad(latents, leaf, gradient[rows])[0]

        return ctx.portions.apply(of, len(images)), None, None


def _with_graph(function: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        return leaf, function(leaf)
