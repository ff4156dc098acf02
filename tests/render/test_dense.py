"""What holds for the reference renderer and, where cheap, for the fast one: derivatives, symmetries, refusals."""

import pytest
import torch
from render.render_scenes import OUTPUTS, cloud, farthest, gradients, put, views

from splatdream.cameras import Cameras
from splatdream.render import BLUR, FAR, NEAR, cpu, dense
from splatdream.render import gsplat as gsplat_renderer

RENDERERS = [cpu.render, dense.render]


@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize(
    "name", ["means", "quats", "log_scales", "logit_opacities", "sh0", "shN", "backgrounds", "extras"]
)
def test_gradients_equal_central_differences(name, antialiased):
    generator = torch.Generator().manual_seed(1)
    # Faint, broad Gaussians: no pixel ends early, none is held at 0.999 and few lie where alpha crosses 1/255.
    splats = cloud(5, 3, seed=8, size=0.8, opaque=-1.0).to(torch.float64)
    cameras = views(2, 9, 7).to(torch.float64)
    inputs = splats.parameters() | {
        "backgrounds": torch.rand(2, 3, generator=generator).double(),
        "extras": torch.randn(5, 2, generator=generator).double(),
    }
    weights = torch.randn(2, 7, 9, 7, generator=generator).double()

    def loss(value):
        changed = inputs | {name: value}
        backgrounds, extras = changed.pop("backgrounds"), changed.pop("extras")
        result = dense.render(splats.replace(**changed), cameras, backgrounds, extras=extras, antialiased=antialiased)
        return (weights * torch.cat([result.features, result.alphas, result.depths], -1)).sum()

    value = inputs[name].clone().requires_grad_()
    loss(value).backward()
    direction = torch.randn(value.shape, generator=generator).double()
    step = 1e-6 * direction
    with torch.no_grad():
        difference = (loss(value + step) - loss(value - step)) / 2e-6
    # Steps of 1e-6 leave truncation below 1e-9 and rounding below 1e-8 of the sums of order 1 to 100 here.
    assert torch.isclose(difference, (value.grad * direction).sum(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("antialiased", [False, True])
def test_projection_equals_gsplats_own_reference(antialiased):
    reference = pytest.importorskip("gsplat.cuda._torch_impl")
    splats, cameras = cloud(300, seed=12, size=0.2).to(torch.float64), views(3).to(torch.float64)
    covariances, _ = reference._quat_scale_to_covar_preci(splats.quats, splats.scales, True, False)
    _, means2d, depths, conics, factors = reference._fully_fused_projection(
        splats.means, covariances, cameras.viewmats, cameras.Ks, cameras.width, cameras.height,
        BLUR, NEAR, FAR, antialiased,
    )  # fmt: skip
    found = dense.project(splats, cameras, antialiased)
    opacities = splats.opacities * (factors if antialiased else 1.0)
    assert found.drawn.float().mean() > 0.5
    for value, expected in [(found.means2d, means2d), (found.depths, depths), (found.conics, conics)]:
        assert torch.allclose(value[found.drawn], expected[found.drawn], rtol=1e-9)
    assert torch.allclose(found.opacities[found.drawn], opacities.expand_as(depths)[found.drawn], rtol=1e-9)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_colours_equal_gsplats_own_reference(degree):
    reference = pytest.importorskip("gsplat.cuda._torch_impl")
    splats, position = cloud(50, degree, seed=degree).to(torch.float64), torch.tensor([1.0, -3.0, 0.5]).double()
    coefficients = torch.cat([splats.sh0, splats.shN], 1)
    expected = reference._spherical_harmonics(degree, splats.means - position, coefficients) + 0.5
    assert torch.allclose(dense.colours(splats, position), expected.clamp_min(0.0), rtol=1e-9)


@pytest.mark.parametrize("renderer", RENDERERS)
def test_turning_world_and_cameras_together_changes_nothing(renderer):
    splats, cameras = cloud(200, seed=13), views()
    quarter = torch.tensor([0.6, 0.8 * 0.36, -0.8 * 0.48, 0.8 * 0.8])
    turn = dense.rotation_matrices(quarter[None])[0]
    turned = splats.replace(means=splats.means @ turn.T, quats=multiply(quarter, splats.quats))
    viewmats = cameras.viewmats.clone()
    viewmats[:, :3, :3] = viewmats[:, :3, :3] @ turn.T
    moved = Cameras(viewmats, cameras.Ks, cameras.width, cameras.height, cameras.azimuths, cameras.elevations)
    before, after = renderer(splats, cameras), renderer(turned, moved)
    for name in OUTPUTS:
        # Turning costs the last digit or two of float32 places in the world, some 1e-5 of a pixel.
        assert farthest(getattr(after, name), getattr(before, name)) < 1e-4


def multiply(left, right):
    """The Hamilton product of wxyz quaternions."""
    (a, b, c, d), (w, x, y, z) = left.unbind(-1), right.unbind(-1)
    return torch.stack(
        [
            a * w - b * x - c * y - d * z,
            a * x + b * w + c * z - d * y,
            a * y - b * z + c * w + d * x,
            a * z + b * y - c * x + d * w,
        ],
        -1,
    )


@pytest.mark.parametrize("renderer", RENDERERS)
def test_backgrounds_shine_through_linearly(renderer):
    splats, cameras, backgrounds = cloud(100, seed=14), views(), torch.rand(2, 3)
    over, bare = renderer(splats, cameras, backgrounds), renderer(splats, cameras)
    through = (1 - bare.alphas) * backgrounds[:, None, None]
    assert torch.allclose(over.images, bare.images + through, atol=1e-6)


@pytest.mark.parametrize("renderer", RENDERERS)
def test_the_order_of_rows_changes_nothing(renderer):
    splats, cameras = cloud(200, 1, seed=15), views()
    rows = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    (before, gradient), (after, permuted) = (
        gradients(renderer, splats, cameras),
        gradients(renderer, splats.take(rows), cameras),
    )
    # The same sums in the same order, but torch's vector instructions and their remainders fall on other rows.
    assert torch.allclose(after.features, before.features, atol=1e-6)
    assert farthest(permuted["means"], gradient["means"][rows]) < 1e-5


@pytest.mark.parametrize("renderer", RENDERERS)
def test_hidden_splat_changes_no_pixel_and_gets_no_gradient(renderer):
    # A stack of opaque walls in front of row 0 ends every pixel before it is reached.
    cameras = views(1)
    walls = put(cloud(5, seed=1), slice(None), log_scales=2.0, logit_opacities=9.0)
    steps = torch.linspace(0.0, -1.0, 5)
    walls = put(walls, slice(None), means=torch.stack([torch.zeros(5), steps, torch.zeros(5)], -1))
    without, _ = gradients(renderer, walls.take(torch.arange(1, 5)), cameras)
    result, found = gradients(renderer, walls, cameras)
    assert torch.equal(result.features, without.features)
    assert result.radii[0, 0].all()
    for name in ("means", "quats", "log_scales", "logit_opacities", "sh0"):
        assert not found[name][0].any(), name


@pytest.mark.parametrize("renderer", RENDERERS)
def test_screen_gradient_is_the_slope_along_the_pixels(renderer):
    # Moving the optical axis by one pixel moves every Gaussian's place on the screen by one pixel. The Gaussians are
    # broad, so that none crosses alpha = 1/255 on the way, and their centres lie inside the picture.
    splats, cameras = cloud(5, seed=8, size=0.8, opaque=-1.0), views(1)
    _, found = gradients(renderer, splats, cameras)
    losses = []
    for shift in (-1e-5, 1e-5):
        moved = cameras.to(torch.float64)
        moved.Ks[:, 0, 2] += shift
        losses.append(value_of(dense.render, splats.to(torch.float64), moved))
    slope = (losses[1] - losses[0]) / 2e-5
    assert abs(slope - found["screen"][..., 0].sum()) < 1e-3 * found["screen"].abs().sum()


def value_of(renderer, splats, cameras) -> float:
    """The sum that `gradients` differentiates."""
    generator = torch.Generator().manual_seed(11)
    backgrounds = torch.rand(len(cameras), 3, generator=generator).to(splats.means.dtype)
    result = renderer(splats, cameras, backgrounds)
    return sum(
        float((torch.randn(value.shape, generator=generator).to(value) * value).sum())
        for value in (getattr(result, name) for name in OUTPUTS)
    )


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("name", ["means", "quats", "log_scales", "logit_opacities", "sh0", "shN"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused_by_name(renderer, name, bad):
    splats = put(cloud(6, 1), slice(2, 3), **{name: bad})
    with pytest.raises(ValueError, match=rf"^{name} "):
        renderer(splats, views())


@pytest.mark.parametrize("renderer", RENDERERS)
def test_other_bad_arguments_are_refused_by_name(renderer):
    splats, cameras = cloud(6), views()
    with pytest.raises(ValueError, match="extras"):
        renderer(splats, cameras, extras=torch.full((6, 1), float("nan")))
    with pytest.raises(ValueError, match="backgrounds"):
        renderer(splats, cameras, torch.zeros(2, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match="quats is on meta"):
        renderer(splats.replace(quats=splats.quats.to("meta")), cameras)


def test_cpu_says_that_it_takes_single_precision():
    with pytest.raises(ValueError, match="float64"):
        cpu.render(cloud(6).to(torch.float64), views().to(torch.float64))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_gsplat_without_cuda_says_so():
    with pytest.raises(RuntimeError, match="CUDA"):
        gsplat_renderer.render(cloud(6), views())
