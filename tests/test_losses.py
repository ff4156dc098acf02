"""Gradient injection is exact; every regulariser means what it says and has the gradient of its value."""

import math

import pytest
import torch

from splatdream.losses import (
    anisotropy,
    clip_rms,
    clip_values,
    inject,
    opacity_entropy,
    opacity_sparsity,
    outside_ball,
    scale_penalty,
    total_variation,
)


def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)


def central_difference(function, point: torch.Tensor, step: float = 1e-6) -> torch.Tensor:
    gradient = torch.zeros_like(point)
    for index in range(point.numel()):
        shift = torch.zeros_like(point)
        shift.view(-1)[index] = step
        gradient.view(-1)[index] = (function(point + shift) - function(point - shift)) / (2 * step)
    return gradient


@pytest.mark.parametrize(
    ("function", "point"),
    [
        (opacity_entropy, uniform(5, low=0.05, high=0.95)),
        (opacity_sparsity, uniform(5)),
        (scale_penalty, uniform(4, 3, low=0.01)),
        (lambda scales: anisotropy(scales, 2.0), uniform(6, 3, low=0.05)),
        (outside_ball, uniform(8, 3, low=-1.5, high=1.5)),
        (total_variation, uniform(2, 4, 3, 2)),
    ],
    ids=["entropy", "sparsity", "scale", "anisotropy", "ball", "variation"],
)
def test_the_gradient_is_the_central_difference(function, point):
    leaf = point.clone().requires_grad_(True)
    function(leaf).backward()
    assert leaf.grad.any()
    # Differences of step 1e-6 in float64 carry an error near 1e-9 relative to values near 1.
    torch.testing.assert_close(leaf.grad, central_difference(function, point), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_injected_gradient_arrives_bit_for_bit(dtype):
    tensor = uniform(2, 4, 3, 3).to(dtype).requires_grad_(True)
    gradient = (1e3 * uniform(2, 4, 3, 3, low=-1)).to(dtype)
    inject(tensor, gradient).backward()
    assert torch.equal(tensor.grad, gradient)


def test_injection_is_the_derivative_of_half_the_squared_distance_to_a_target():
    # The reparametrised form of threestudio: 1/2 |x - sg(x - g)|^2.
    tensor, gradient = uniform(3, 4).requires_grad_(True), uniform(3, 4, low=-1)
    target = (tensor - gradient).detach()
    (reference,) = torch.autograd.grad(0.5 * (tensor - target).square().sum(), tensor)
    (injected,) = torch.autograd.grad(inject(tensor, gradient), tensor)
    torch.testing.assert_close(injected, reference)


def test_nothing_flows_into_the_injected_gradient():
    gradient = uniform(3).requires_grad_(True)
    inject(uniform(3).requires_grad_(True), gradient).backward()
    assert gradient.grad is None


def test_injection_refuses_to_broadcast():
    with pytest.raises(ValueError, match=r"\(1, 3\).*\(2, 3\)"):
        # Called past the shape check of the tests, as a user without it would.
        getattr(inject, "__wrapped__", inject)(uniform(2, 3), uniform(1, 3))


def test_clipping_by_value_holds_every_number_and_hides_no_infinity():
    gradient = torch.tensor([[0.5, -3.0], [math.inf, -2.0]])
    assert clip_values(gradient, 2.0).tolist() == [[0.5, -2.0], [math.inf, -2.0]]
    assert clip_values(torch.tensor([math.nan]), 2.0).isnan().all()


def test_clipping_by_size_shortens_long_samples_keeps_their_directions_and_leaves_short_ones_alone():
    gradient = uniform(3, 4, 2, 2, low=-1) * torch.tensor([0.1, 1.0, 100.0]).reshape(3, 1, 1, 1)
    clipped = clip_rms(gradient, 0.4)
    sizes = clipped.flatten(1).square().mean(1).sqrt()
    assert torch.equal(clipped[0], gradient[0])
    assert sizes[1:].tolist() == pytest.approx([0.4, 0.4])
    ratios = clipped[2] / gradient[2]
    torch.testing.assert_close(ratios, ratios.flatten()[0].expand_as(ratios))
    alone = torch.cat([clip_rms(gradient[k : k + 1], 0.4) for k in range(3)])
    torch.testing.assert_close(clipped, alone)
    assert not clip_rms(torch.tensor([[math.inf, 1.0]]), 0.4).isfinite().all()
    assert torch.equal(clip_rms(torch.zeros(2, 3), 0.4), torch.zeros(2, 3))


def test_entropy_is_zero_at_the_ends_and_log_two_at_half_and_finite_throughout():
    ends = torch.tensor([0.0, 1.0]).requires_grad_(True)
    value = opacity_entropy(ends)
    value.backward()
    assert value.item() == pytest.approx(0.0, abs=2e-5)
    assert ends.grad.isfinite().all()
    assert opacity_entropy(torch.full((3,), 0.5)).item() == pytest.approx(math.log(2))


def test_anisotropy_leaves_round_gaussians_alone_and_counts_only_the_excess():
    scales = torch.tensor([[1.0, 1.0, 1.0], [0.1, 0.5, 2.0]])
    assert anisotropy(scales, 25.0).item() == 0.0
    assert anisotropy(scales, 10.0).item() == pytest.approx((20.0 - 10.0) / 2)


def test_centres_inside_the_ball_are_free_and_those_outside_are_drawn_back():
    means = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.6, 0.0], [0.0, 0.0, 3.0]], requires_grad=True)
    value = outside_ball(means)
    value.backward()
    assert value.item() == pytest.approx(4.0 / 3)
    assert not means.grad[:2].any()
    assert means.grad[2].tolist() == pytest.approx([0.0, 0.0, 4.0 / 3])


def test_variation_is_zero_on_a_flat_picture_and_counts_an_edge_by_its_length():
    edge = torch.zeros(1, 4, 5, 1)
    edge[:, :, 3:] = 1.0
    assert total_variation(torch.full((2, 4, 5, 3), 0.7)).item() == 0.0
    assert total_variation(edge).item() == pytest.approx(4 / 20)
    assert total_variation(torch.ones(1, 1, 1, 3)).item() == 0.0
