"""How many views at once fit into a memory that the user names: weights, and what encoding keeps for its gradient.

Nothing is tried for it: the autoencoder runs once without numbers, on torch's meta device, and what autograd would keep
of one view is added up: of an autoencoder that computes its blocks again, their inputs and the largest block. The
network runs without a gradient, one small layer after another, and needs less than that.
"""

from typing import Any

import torch
from torch import Tensor, nn

MOST = 1_000_000.0
"""Gigabytes that no device has."""
RESERVE = 1_000_000_000
"""For the splats, their pictures, and what a GPU's driver and allocator take."""


def keep_within(prior: Any, gigabytes: float) -> str:
    """Sets how many views the prior takes at once, and says why. ValueError for no memory at all.

    On a GPU torch is held to this much, so that a plan that was too bold is mended view by view (`portions.py`).
    """
    if not 0.0 < gigabytes < MOST:
        raise ValueError(f"the memory to keep within is a number of gigabytes above 0; got {gigabytes:g}")
    prior.spare_memory()
    weights = sum(value.nbytes for network in (prior.unet, prior.vae) for value in network.parameters())
    each = kept_for_gradient(prior.vae, prior.image_size)
    group = prior.portions.group
    room = 1e9 * gigabytes - weights - RESERVE
    views = max(int(room // each) // group, 1) * group
    prior.portions.views = views
    if prior.device.type == "cuda":
        index = torch.cuda.current_device() if prior.device.index is None else prior.device.index
        total = torch.cuda.get_device_properties(index).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1e9 * gigabytes / total, 1.0), index)
    tight = " (that may be too little)" if room < each * group else ""
    return (
        f"within {gigabytes:g} GB: weights {weights / 1e9:.1f} GB, {each / 1e9:.1f} GB for the gradient of a view, "
        f"so {views} at once{tight}; text encoders stay outside but for a moment"
    )


def kept_for_gradient(vae: Any, size: int) -> int:
    """The most bytes that autograd keeps at once for one encoded picture of `size` pixels; weights do not count."""
    with torch.device("meta"):
        twin = type(vae).from_config(vae.config).to(vae.dtype).requires_grad_(False)
        picture = torch.empty(1, 3, size, size, dtype=vae.dtype, requires_grad=True)
    kept, graphs, again = {}, [], [0]

    def block(module: nn.Module, *inputs: Tensor | None) -> Tensor:
        inside: dict[int, int] = {}
        with counting(inside):
            output = module(*inputs)
        for tensor in inputs:
            if tensor is not None:
                count(tensor, kept)
        again.append(sum(inside.values()))
        graphs.append(output)
        return output

    if vae.is_gradient_checkpointing:
        twin.enable_gradient_checkpointing(block)
    with counting(kept):
        graphs.append(twin.encode(picture))  # must live on, or the next tensor would take the place of the last
    return sum(kept.values()) + max(again)


def counting(kept: dict[int, int]) -> Any:
    """A context in which what autograd keeps is counted."""
    return torch.autograd.graph.saved_tensors_hooks(lambda tensor: count(tensor, kept), lambda tensor: tensor)


def count(tensor: Tensor, kept: dict[int, int]) -> Tensor:
    """Notes the bytes of a tensor's storage, once; weights do not count."""
    if not isinstance(tensor, nn.Parameter):
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
    return tensor
