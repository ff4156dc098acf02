"""Clouds of other splats: every Gaussian as it was, or all of them moved and sized together."""

import pytest
import torch

from splatdream.export import read, write
from splatdream.first_cloud import Around
from splatdream.init.sphere import Sphere
from splatdream.init.splat import FromSplat
from splatdream.splats import Splats

SOURCES = Around()


def ball(count: int = 40, degree: int = 0) -> Splats:
    generator = torch.Generator().manual_seed(0)
    cloud = Sphere(jitter=0.3)(count, generator)
    return cloud.replace(shN=0.1 * torch.randn(count, (degree + 1) ** 2 - 1, 3, generator=generator))


def made(part: FromSplat) -> Splats:
    return part(9, torch.Generator().manual_seed(0), "a ball", SOURCES)


@pytest.mark.parametrize("suffix", [".ply", ".compressed.ply", ".splat", ".spz", ".sog", ".glb"])
def test_a_splat_of_any_format_begins_as_its_reader_gives_it(suffix, tmp_path):
    path = tmp_path / f"ball{suffix}"
    write(ball(), path)
    part, count = FromSplat(file=str(path)).settled(9, SOURCES)
    expected, cloud = read(path).splats, made(part)
    assert len(cloud) == count == 40
    assert all(torch.equal(value, getattr(cloud, name)) for name, value in expected.parameters().items())


def test_colours_keep_their_dependence_on_the_view(tmp_path):
    write(ball(degree=2), tmp_path / "ball.ply")
    assert made(FromSplat(file=str(tmp_path / "ball.ply"))).sh_degree == 2


def test_a_fitted_splat_is_the_same_but_for_place_and_size(tmp_path):
    cloud = ball()
    moved = cloud.replace(means=50 * cloud.means + 400, log_scales=cloud.log_scales + torch.tensor(50.0).log())
    write(moved, tmp_path / "far.ply")
    with pytest.raises(ValueError, match="radius=1 fits it into that"):
        FromSplat(file=str(tmp_path / "far.ply")).settled(40, SOURCES)
    fitted = made(FromSplat(file=str(tmp_path / "far.ply"), radius=1.0))
    assert float(fitted.means.norm(dim=-1).max()) == pytest.approx(1.0)
    ratios = fitted.scales / cloud.scales
    # float32 at 400 holds seven digits
    assert torch.allclose(ratios, ratios.mean().expand_as(ratios), rtol=1e-4)
    assert torch.allclose(torch.pdist(fitted.means) / torch.pdist(cloud.means), ratios.mean(), rtol=1e-3)


def test_a_splat_of_nothing_one_or_broken_rows_is_refused(tmp_path):
    write(ball(2).map(lambda value: value[:1]), tmp_path / "one.ply")
    with pytest.raises(ValueError, match="holds 1 Gaussians; a cloud needs at least 2"):
        FromSplat(file=str(tmp_path / "one.ply")).settled(40, SOURCES)
    same = ball()
    write(same.replace(means=torch.zeros_like(same.means)), tmp_path / "point.ply")
    with pytest.raises(ValueError, match="lie at one place"):
        FromSplat(file=str(tmp_path / "point.ply")).settled(40, SOURCES)
    (tmp_path / "junk.ply").write_text("ply\n")
    with pytest.raises(ValueError, match="is no complete PLY file"):
        FromSplat(file=str(tmp_path / "junk.ply")).settled(40, SOURCES)


def test_axes_may_be_told_where_the_file_is_wrong(tmp_path):
    write(ball(), tmp_path / "ball.ply")
    turned = made(FromSplat(file=str(tmp_path / "ball.ply"), up="z-up"))
    straight = made(FromSplat(file=str(tmp_path / "ball.ply")))
    assert torch.allclose(turned.means, straight.means[:, [0, 2, 1]] * torch.tensor([1.0, -1.0, 1.0]), atol=1e-6)
    with pytest.raises(ValueError, match="unknown axes 'down'"):
        FromSplat(file=str(tmp_path / "ball.ply"), up="down").settled(40, SOURCES)
