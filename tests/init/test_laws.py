"""Laws of all initialisers in the catalogue."""

from pathlib import Path

import pytest
import torch
import trimesh
from shapes import shap_e_folder

from splatdream.catalog import CATALOG, configured
from splatdream.export import write
from splatdream.first_cloud import Around, described
from splatdream.init import Initialiser
from splatdream.init.sphere import Sphere
from splatdream.splats import Splats, colours_from_sh0

SOURCES = Around()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Each with what it needs, and a file far from the origin."""
    folder = tmp_path_factory.mktemp("begin")
    trimesh.creation.box((30, 20, 10)).apply_translation([500, 0, 0]).export(folder / "box.obj")
    write(Sphere(jitter=0.2)(40, seeded()), folder / "ball.ply")
    return {
        "sphere": "sphere",
        "points": f"points:file={folder / 'box.obj'}",
        "splat": f"splat:file={folder / 'ball.ply'}",
        "shap-e": f"shap-e:model={shap_e_folder(folder / 'shap-e')},steps=2,grid=12",
    }


def made(spec: str, count: int = 40, seed: int = 0) -> Splats:
    return configured("init", spec)(count, seeded(seed), "a red mug", SOURCES)


@pytest.mark.parametrize("name", CATALOG["init"])
def test_equal_generators_give_equal_bytes_and_the_global_one_is_left_alone(name, specs):
    before = torch.random.get_rng_state()
    one, other = made(specs[name]), made(specs[name])
    assert all(torch.equal(value, getattr(other, key)) for key, value in one.parameters().items())
    assert torch.equal(torch.random.get_rng_state(), before)
    if name != "splat":  # all of its file, whatever chance says
        assert not torch.equal(one.means, made(specs[name], seed=1).means)


@pytest.mark.parametrize("count", [2, 3, 40, 700])
@pytest.mark.parametrize("name", CATALOG["init"])
def test_as_many_as_promised_all_finite_and_within_the_unit_ball(name, count, specs):
    part, promised = configured("init", specs[name]).settled(count, SOURCES)
    cloud = part(count, seeded(), "a red mug", SOURCES)
    assert len(cloud) == promised == (40 if name == "splat" else count)
    assert all(bool(value.isfinite().all()) for value in cloud.parameters().values())
    # Grown points may lie a neighbour's distance outside.
    assert cloud.means.norm(dim=-1).max() <= 1.0 + 2 * float(cloud.scales.max())
    colours = colours_from_sh0(cloud.sh0)
    assert colours.min() >= -1e-6
    assert colours.max() <= 1 + 1e-6
    assert bool(((cloud.opacities > 0) & (cloud.opacities < 1)).all())


@pytest.mark.parametrize("name", CATALOG["init"])
def test_each_is_an_initialiser_that_says_how_it_is_made(name, specs):
    part, _ = configured("init", specs[name]).settled(40, SOURCES)
    assert isinstance(part, Initialiser)
    assert configured("init", described(name, part)) == part
    assert all(path.is_file() and path.is_absolute() for path in part.files().values())


@pytest.mark.parametrize("name", ["sphere", "points", "shap-e"])
def test_one_gaussian_is_no_cloud(name, specs):
    with pytest.raises(ValueError, match="count is 1; a cloud needs at least 2"):
        made(specs[name], count=1)


@pytest.mark.parametrize("name", ["points", "splat"])
def test_a_file_must_be_named_and_be_there(name, tmp_path):
    with pytest.raises(ValueError, match=f"{name} needs a file: write {name}:file=PATH"):
        configured("init", name).settled(40, SOURCES)
    with pytest.raises(FileNotFoundError, match=r"there is no file .*nothing\.ply to begin with"):
        configured("init", f"{name}:file={tmp_path / 'nothing.ply'}").settled(40, SOURCES)


def test_a_path_that_a_recipe_cannot_hold_is_refused():
    part = configured("init", "points:file=chair.obj")
    comma = type(part)(file="a,b.obj")
    with pytest.raises(ValueError, match="a path with a comma cannot stand in a recipe"):
        described("points", comma)
    assert Path(part.file) == Path("chair.obj")
