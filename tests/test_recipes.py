"""The recipes that ship: whole, with a source for every number, and able to run."""

import re
import tomllib
from pathlib import Path

import pytest
import torch
from tiny import tiny_prior_folder

from splatdream.catalog import CATALOG, configured
from splatdream.first_cloud import settled
from splatdream.loop import dream, learning_rates
from splatdream.priors import load_prior
from splatdream.recipe import QUALITIES, Recipe, keys, preset, shipped, shipped_file
from splatdream_cli.plan import check_names

NAMES = list(CATALOG["recipe"])
PUBLISHED = [name for name in NAMES if name not in QUALITIES]


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_prior_folder(tmp_path_factory.mktemp("prior") / "tiny", cameras=True)


def test_every_file_is_in_the_catalogue_and_the_other_way_round() -> None:
    files = {path.stem for path in shipped_file("normal").parent.iterdir() if path.suffix == ".toml"}
    assert files == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_line_says_where_its_number_comes_from(name) -> None:
    lines = shipped_file(name).read_text(encoding="utf-8").splitlines()
    told = [line for line in lines if line and not line.startswith("#")]
    assert lines[0].startswith("# ")
    assert all(re.search(r"\S  # \S.*\w", line) for line in told)
    assert len(told) == len(tomllib.loads("\n".join(lines)))


PINNED = {
    "dreamgaussian": {
        "steps": 500, "views": 1, "count": 5000, "lr_means": (0.01, 0.0002), "lr_colours": (0.01, 0.01),
        "lr_scales": (0.005, 0.005), "lr_quats": (0.005, 0.005), "lr_opacities": (0.05, 0.05),
        "elevation": (-30, 30), "distance": (2.5, 2.5), "fov": (49.1, 49.1),
        "guidance_scale": 100, "weighting": "sds", "grow_gradient": 0.01, "prune_opacity": 0.01, "prune_scale": 0.4,
    },
    "gaussiandreamer": {
        "steps": 1200, "views": 4, "clip_value": (1.5, 2.0), "lr_colours": (0.0125, 0.0125),
        "lr_scales": (0.005, 0.005), "lr_quats": (0.001, 0.001), "lr_opacities": (0.01, 0.01),
        "elevation": (-10, 60), "distance": (1.5, 4.0), "fov": (40, 70), "background": (0, 0),
        "guidance_scale": 101, "weighting": "sds", "grow_gradient": 0.0002, "prune_opacity": 0.05, "prune_scale": 0.4,
    },
    "luciddreamer": {
        "steps": 5000, "views": 4, "count": 100_000, "lr_colours": (0.005, 0.003), "lr_scales": (0.005, 0.001),
        "lr_quats": (0.001, 0.0002), "lr_opacities": (0.05, 0.05), "elevation": (-15, 45), "distance": (5.2, 5.5),
        "background": (1, 1), "guidance_scale": 7.5, "weighting": "sigma/alpha", "grow_gradient": 0.00075,
        "prune_opacity": 0.005, "prune_scale": 0.35, "reset_every": 300,
    },
    "gsgen": {
        "steps": 15_000, "views": 4, "count": 4096, "lr_means": (0.005, 0.00003), "lr_colours": (0.01, 0.01),
        "lr_scales": (0.003, 0.001), "lr_quats": (0.003, 0.003), "lr_opacities": (0.003, 0.003),
        "elevation": (-20, 90), "distance": (2.5, 2.5), "guidance_scale": 101, "weighting": "sds",
        "grow_gradient": 0.02, "prune_opacity": 0,
    },
    "sdi": {
        "steps": 5000, "views": 4, "guidance_scale": 7.5, "inversion_guidance_scale": -7.5, "steps of the rule": 10,
        "eta": 0.3, "tau": 0.0333,
    },
    "prolificdreamer": {
        "steps": 25_000, "guidance_scale": 7.5, "learning_rate": 1e-4, "count": 4096, "lr_means": (0.001, 0.00002),
        "lr_colours": (0.01, 0.01), "lr_scales": (0.005, 0.005), "lr_quats": (0.005, 0.005),
        "lr_opacities": (0.05, 0.05), "grow_gradient": 0.01, "prune_opacity": 0.005, "cap": 500_000,
    },
}  # fmt: skip
"""What was read in the published code, or follows from it: guidance of e_c + g (e_c - e_u) counts one more."""


@pytest.mark.parametrize("name", PINNED)
def test_the_numbers_are_the_published_ones(name) -> None:
    recipe = shipped(name, "a red mug")
    rule, growth = configured("distiller", recipe.distill), configured("densifier", recipe.densify)
    found = vars(growth) | vars(rule) | {"steps of the rule": vars(rule).get("steps")} | vars(recipe)
    for key, value in PINNED[name].items():
        assert found[key] == pytest.approx(value), key


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_names_parts_and_keys_that_there_are(name) -> None:
    table = tomllib.loads(shipped_file(name).read_text(encoding="utf-8"))
    recipe = shipped(name, "a red mug")
    assert set(table) <= set(keys()) - {"prompt", "negative_prompt", "seed", "prior", "device", "renderer"}
    check_names(recipe)
    for kind, spec in (("distiller", recipe.distill), ("timesteps", recipe.timesteps), ("densifier", recipe.densify)):
        assert configured(kind, spec)
    assert configured("view_words", recipe.view_words)
    assert settled(recipe).count == recipe.count


@pytest.mark.parametrize("name", NAMES)
def test_two_steps_of_every_recipe_end_finite(name, prior) -> None:
    recipe = shipped(name, "a red mug", device="cpu", renderer="cpu", prior=str(prior), steps=2, count=60)
    loaded = load_prior(recipe.prior, recipe.prompt, view_words=recipe.view_words)
    if name == "mvdream":
        loaded.see_together(4)
    *_, last = dream(recipe, prior=loaded)
    assert last.images.shape[1:3] == (loaded.image_size, loaded.image_size)
    assert all(bool(value.isfinite().all()) for value in last.state.splats.parameters().values())


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_recipe_shows_the_unit_ball_from_outside(name) -> None:
    recipe = shipped(name, "a red mug")
    nearest, farthest = recipe.distance
    narrowest, widest = (torch.tensor(angle).deg2rad() / 2 for angle in recipe.fov)
    # At best the whole ball is seen, at worst a third of its diameter.
    assert torch.asin(torch.tensor(1 / farthest)) < 1.05 * widest
    assert torch.asin(torch.tensor(1 / nearest)) < 3 * narrowest


def test_presets_are_the_files_of_their_names() -> None:
    for quality in QUALITIES:
        assert preset(quality, "a mug") == Recipe.from_toml(shipped_file(quality), prompt="a mug")


def test_an_unknown_recipe_is_told_with_the_names_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"unknown recipe 'luciddream': choose one of draft, normal, .*'luciddreamer'"):
        shipped("luciddream", "a mug")
    with pytest.raises(ValueError, match="unknown quality 'sdi': choose one of draft, normal, high"):
        preset("sdi", "a mug")


def test_rates_have_fallen_where_the_recipe_says() -> None:
    recipe = Recipe("a mug", lr_means=(0.01, 0.0001), lr_colours=(0.04, 0.01), lr_until=0.5)
    assert learning_rates(recipe, 0.0)["means"] == 0.01
    assert learning_rates(recipe, 0.25)["means"] == pytest.approx(0.001)
    assert learning_rates(recipe, 0.25)["sh0"] == pytest.approx(0.02)
    for progress in (0.5, 0.9):
        assert learning_rates(recipe, progress)["means"] == pytest.approx(0.0001)
        assert learning_rates(recipe, progress)["shN"] == pytest.approx(0.01 / 20)
    assert learning_rates(recipe, 0.9)["log_scales"] == 0.02
