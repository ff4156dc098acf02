"""The numba renderer is the dense one, faster: pictures and gradients over random and nasty scenes."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from math import log

import pytest
import torch
from render.render_scenes import OUTPUTS, cloud, farthest, gradients, nasty, put, views

from splatdream.render import cpu, dense

# Single precision keeps 7 digits of each number; sums over some hundred Gaussians and pixels lose one or two of them,
# and sums that cancel a little more. Double precision in the reference shows that the rest is rounding.
IMAGE_TOLERANCE, DEPTH_TOLERANCE, GRADIENT_TOLERANCE = 5e-6, 3e-5, 2e-4


def assert_same(splats, cameras, **options):
    found, found_gradients = gradients(cpu.render, splats, cameras, **options)
    expected, expected_gradients = gradients(dense.render, splats, cameras, dtype=torch.float64, **options)
    for name in OUTPUTS:
        tolerance = DEPTH_TOLERANCE if name == "depths" else IMAGE_TOLERANCE
        assert farthest(getattr(found, name), getattr(expected, name)) < tolerance, name
    assert torch.equal(found.radii, expected.radii)
    for name, expected_gradient in expected_gradients.items():
        assert found_gradients[name].isfinite().all(), name
        assert farthest(found_gradients[name], expected_gradient) < GRADIENT_TOLERANCE, name


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("antialiased", [False, True])
def test_cpu_equals_dense_for_every_degree(degree, antialiased):
    assert_same(cloud(150, degree, seed=degree), views(), antialiased=antialiased)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_cpu_equals_dense_with_extra_channels(count):
    extras = torch.randn(120, count, generator=torch.Generator().manual_seed(5))
    assert_same(cloud(120, seed=7), views(), extras=extras)


@pytest.mark.parametrize("antialiased", [False, True])
def test_cpu_equals_dense_on_nasty_gaussians(antialiased):
    assert_same(nasty(), views(3), antialiased=antialiased)


def test_cpu_equals_dense_where_transmittance_runs_out():
    splats = cloud(700, seed=2, size=0.3, opaque=2.0)
    assert_same(splats, views(1, 33, 24))
    alphas = cpu.render(splats, views(1, 33, 24)).alphas
    assert (alphas > 0.999).float().mean() > 0.5  # the scene does what its name says


def test_cpu_equals_dense_on_a_picture_smaller_than_a_tile():
    assert_same(cloud(60, 1, seed=9, size=0.2), views(2, 5, 3))


def test_no_gaussians_show_the_background():
    backgrounds = torch.rand(2, 3)
    for renderer in (cpu.render, dense.render):
        result = renderer(cloud(0), views(), backgrounds)
        assert torch.equal(result.images, backgrounds[:, None, None].expand(2, 35, 41, 3))
        assert not result.depths.any()
        assert not result.alphas.any()


def test_only_unseen_gaussians_get_zero_gradients():
    behind = put(cloud(20, 2), slice(None), means=[0.0, -9.0, 0.0])
    result, found = gradients(cpu.render, behind, views(1))
    assert not result.alphas.any()
    assert not any(gradient.any() for name, gradient in found.items() if name != "backgrounds")


def test_one_and_two_threads_give_the_same_bytes():
    splats, cameras = cloud(2000, 1, seed=4, size=0.05), views(3, 70, 90)
    extras = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
    before, runs = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            runs.append(gradients(cpu.render, splats, cameras, extras=extras))
    finally:
        torch.set_num_threads(before)
    (one, one_gradients), (two, two_gradients) = runs
    assert all(torch.equal(getattr(one, name), getattr(two, name)) for name in OUTPUTS)
    assert all(torch.equal(gradient, two_gradients[name]) for name, gradient in one_gradients.items())


def test_concurrent_callers_do_not_disturb_each_other():
    splats, cameras = cloud(500, seed=6), views()
    alone = cpu.render(splats, cameras).features
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda _: cpu.render(splats, cameras).features, range(12)))
    assert all(torch.equal(features, alone) for features in together)


def test_a_needle_of_one_to_a_million_is_drawn_exactly():
    # A float32 determinant of its screen covariance would have no digit left.
    needle = put(cloud(1), slice(None), means=0.0, log_scales=[log(300.0), -9.0, -9.0], quats=[0.9, 0.1, 0.3, 0.2])
    needle = put(needle, slice(None), logit_opacities=1.0)
    found, expected = cpu.render(needle, views()), dense.render(needle.to(torch.float64), views().to(torch.float64))
    assert farthest(found.features, expected.features) < IMAGE_TOLERANCE
    assert found.alphas.max() > 0.5


def test_importing_the_renderer_compiles_nothing():
    code = "from splatdream.render import cpu; print(len(cpu.project.signatures) + len(cpu.composite.signatures))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 0


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_loss_may_use_any_one_output(name):
    found, expected = cloud(40, seed=1).requires_grad(), cloud(40, seed=1).to(torch.float64).requires_grad()
    getattr(cpu.render(found, views()), name).square().sum().backward()
    getattr(dense.render(expected, views().to(torch.float64)), name).square().sum().backward()
    assert farthest(found.means.grad, expected.means.grad) < GRADIENT_TOLERANCE
