"""A plan for a memory: what is counted is what autograd keeps, and more memory never means fewer views."""

from types import SimpleNamespace

import pytest
import torch
from families import FAMILIES
from torch import nn

from splatdream.priors.budget import RESERVE, keep_within, kept_for_gradient
from splatdream.priors.diffusion import DiffusionPrior


@pytest.fixture(scope="module", params=["sd eps", "sana"])
def prior(request, tmp_path_factory) -> DiffusionPrior:
    return DiffusionPrior.load(FAMILIES[request.param](tmp_path_factory.mktemp("budget") / "model"))


def test_what_is_counted_is_what_autograd_keeps(prior) -> None:
    prior.vae.disable_gradient_checkpointing()
    kept: dict[int, int] = {}

    def count(tensor):
        if not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    images = torch.rand(1, 3, prior.image_size, prior.image_size, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        graph = prior.vae.encode(images)
    assert graph is not None
    # Kernels of the CPU keep some small things otherwise than the meta device knows.
    assert kept_for_gradient(prior.vae, prior.image_size) == pytest.approx(sum(kept.values()), rel=0.15)


def test_an_encoder_that_computes_its_blocks_again_keeps_their_inputs_and_one_block(prior) -> None:
    prior.vae.disable_gradient_checkpointing()
    side, encoder = prior.image_size, prior.vae.encoder
    picture = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0), requires_grad=True)

    def slope() -> torch.Tensor:
        return torch.autograd.grad(prior._encode(picture.permute(0, 2, 3, 1)).square().sum(), picture)[0]

    plain, all_of_it = slope(), kept_for_gradient(prior.vae, side)
    prior.spare_memory()
    # The same operations twice, and in the same order.
    assert torch.equal(slope(), plain)
    if not prior.vae._supports_gradient_checkpointing:
        assert kept_for_gradient(prior.vae, side) == all_of_it
        return
    inputs = []
    blocks = (*encoder.down_blocks, encoder.mid_block)
    hooks = [block.register_forward_pre_hook(lambda block, given: inputs.append(given[0].nbytes)) for block in blocks]
    with torch.no_grad():
        prior._encode(picture.permute(0, 2, 3, 1))
    for hook in hooks:
        hook.remove()
    assert sum(inputs) < kept_for_gradient(prior.vae, side) < all_of_it


def test_views_at_once_follow_the_memory(prior) -> None:
    prior.spare_memory()
    each = kept_for_gradient(prior.vae, prior.image_size)
    weights = sum(value.nbytes for network in (prior.unet, prior.vae) for value in network.parameters())
    for views in (1, 3, 7):
        said = keep_within(prior, (weights + RESERVE + (views + 0.5) * each) / 1e9)
        assert prior.portions.views == views
        assert f"so {views} at once;" in said
    assert "so 1 at once (that may be too little)" in keep_within(prior, 0.5)
    for wrong in (0.0, -1.0, float("nan"), float("inf"), 1e308):
        with pytest.raises(ValueError, match="a number of gigabytes above 0; got"):
            keep_within(prior, wrong)


@pytest.mark.parametrize(("device", "index"), [("cuda", 2), ("cuda:1", 1)])
def test_a_gpu_without_a_number_is_the_current_one(prior, device, index, monkeypatch) -> None:
    held = {}

    def hold(fraction, device) -> None:
        held[torch.cuda._utils._get_device_index(device)] = fraction  # torch's own, which refuses "cuda"

    monkeypatch.setattr(prior, "device", torch.device(device))
    monkeypatch.setattr("torch.cuda.current_device", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: SimpleNamespace(total_memory=8e9))
    monkeypatch.setattr("torch.cuda.set_per_process_memory_fraction", hold)
    keep_within(prior, 2.0)
    assert held == {index: 0.25}
