"""Recipes: what is written is read back, and what is wrong is told with what is right."""

import tomllib
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splatdream.recipe import QUALITIES, Recipe, keys, preset

NASTY = [
    'a "red" mug',
    "back\\slash \\n \\u0041",
    "line\nbreak\ttab\r\x00\x1f\x7f",
    "# no comment = [1]",
    "'single' '''triple''' \"\"\"triple\"\"\"",
    "café ☕ 🫖 \u202e right to left \u2028",
    "  spaces at both ends  ",
    "{braces} $HOME %PATH% [bold]",
]


def written(recipe: Recipe, folder: Path) -> Path:
    path = folder / "recipe.toml"
    path.write_bytes(recipe.to_toml().encode())
    return path


@pytest.mark.parametrize("text", NASTY)
def test_nasty_strings_survive_a_file(text, tmp_path) -> None:
    recipe = Recipe(text, negative_prompt=text, prior=text)
    assert Recipe.from_toml(written(recipe, tmp_path)) == recipe


@given(st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip))
def test_any_prompt_survives_toml(text) -> None:
    assert tomllib.loads(Recipe(text).to_toml())["prompt"] == text


numbers = st.floats(0.0, 1e3, allow_subnormal=True)


@given(st.fixed_dictionaries({"weight_smooth": numbers, "weight_scale": numbers, "seed": st.integers(-(2**62), 2**62)}))
def test_numbers_survive_toml_exactly(values) -> None:
    recipe = Recipe("a mug", **values)
    table = tomllib.loads(recipe.to_toml())
    assert {key: table[key] for key in values} == values
    assert {key: tuple(v) if isinstance(v, list) else v for key, v in table.items()} == asdict(recipe)


def test_a_key_left_out_of_a_file_has_its_default(tmp_path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('prompt = "a mug"\nweight_scale = 1\nfov = [39, 41.5]\n')
    assert Recipe.from_toml(path) == Recipe("a mug", weight_scale=1.0, fov=(39.0, 41.5))


def test_a_byte_order_mark_is_passed_over(tmp_path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(b'\xef\xbb\xbfprompt = "a mug"\n')
    assert Recipe.from_toml(path) == Recipe("a mug")


def test_an_unknown_key_is_told_with_the_nearest(tmp_path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('prompt = "a mug"\nstpes = 3\n')
    with pytest.raises(ValueError, match=r"unknown recipe key in .*'stpes'.*did you mean 'steps'"):
        Recipe.from_toml(path)
    with pytest.raises(ValueError, match=r"unknown recipe key 'lr_mean'.*did you mean 'lr_means'"):
        Recipe("a mug").set(["lr_mean=3"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('steps = "many"', "steps is a int, like 400; got 'many'"),
        ("steps = 3.5", "steps is a int"),
        ("view_words = 1", "view_words is a str"),
        ("fov = 40.5", "fov is a list of 2 numbers"),
        ("fov = [40.5]", "fov is a list of 2 numbers"),
        ('fov = [40.5, "a"]', "fov is a float"),
        ('t_min = 0.1\ntimesteps = "linear"', "gives timesteps and, from earlier recipes, t_min"),
        ("seed = true", "seed is a int"),
        ("steps = 3\nsteps = 4", "is not a TOML file"),
        ("lr_scales = nan", "lr_scales must be finite"),
    ],
)
def test_a_bad_value_in_a_file_is_told_with_what_is_allowed(line, message, tmp_path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f'prompt = "a mug"\n{line}\n')
    with pytest.raises(ValueError, match=message):
        Recipe.from_toml(path)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"prompt = ", b"[[[", b"\x89PNG\r\n"])
def test_a_file_that_is_no_toml_is_called_so(content, tmp_path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a TOML file"):
        Recipe.from_toml(path)


def test_a_file_without_a_prompt_takes_the_one_that_is_given(tmp_path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("steps = 3\n")
    with pytest.raises(ValueError, match="has no prompt"):
        Recipe.from_toml(path)
    assert Recipe.from_toml(path, prompt="a mug") == Recipe("a mug", steps=3)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"prompt": "  "}, "the prompt is empty"),
    ({"steps": 0}, "steps must be at least 1"),
    ({"views": -1}, "views must be at least 1"),
    ({"lr_means": (0.1, -0.1)}, "lr_means must not be negative"),
    ({"lr_means": (0.0, 0.1)}, "one end alone cannot be 0"),
    ({"lr_scales": (0.1, 0.0)}, "lr_scales falls by equal factors, so one end alone cannot be 0"),
    ({"lr_until": 0.0}, "lr_until must lie above 0 and within 1"),
    ({"largest_scale": -0.3}, "largest_scale is above 0, or 0 for any"),
    ({"count": 1}, "count must be at least 2"),
    ({"size": -8}, "size must be at least 0"),
    ({"coarse_until": 1.5}, r"coarse_until must lie within 0\.\.1"),
    ({"background_tint": -0.1}, "background_tint must lie within"),
    ({"weight_scale": float("inf")}, "weight_scale must be finite"),
    ({"guidance_rescale": 1.5}, r"guidance_rescale must lie within 0\.\.1"),
    ({"clip_value": (0.0, 2.0)}, "clip_value is above 0 at both ends, or 0 at both for no limit"),
    ({"clip_rms": (-1.0, 2.0)}, "clip_rms is above 0"),
    ({"elevation": (30.0, 10.0)}, r"elevation is LOW\.\.HIGH"),
    ({"distance": (0.5, 3.0)}, r"distance is LOW\.\.HIGH within 1\.05"),
    ({"fov": (0.0, 40.0)}, r"fov is LOW\.\.HIGH"),
]


@pytest.mark.parametrize(("values", "message"), BAD)
def test_values_that_cannot_work_are_refused_when_the_recipe_is_made(values, message) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Recipe("a mug"), **values)


def test_set_reads_every_type() -> None:
    texts = ["steps=7", "lr_colours=1e-3", "lr_means=0.9..0.4", "fov=39,41", "view_words=none"]
    recipe = Recipe("a mug").set([*texts, "distance=3.4", "distill=sds:weighting=sds"])
    assert (recipe.steps, recipe.lr_means, recipe.fov) == (7, (0.9, 0.4), (39.0, 41.0))
    assert recipe.lr_colours == (0.001, 0.001)
    assert recipe.distance == (3.4, 3.4)
    assert recipe.view_words == "none"
    assert recipe.distill == "sds:weighting=sds"


@pytest.mark.parametrize("text", ["steps=a", "fov=1..2..3", "fov=a..b", "lr_quats=", "steps"])
def test_set_refuses_what_it_cannot_read(text) -> None:
    with pytest.raises(ValueError, match=text.partition("=")[0]):
        Recipe("a mug").set([text])


def test_a_recipe_of_an_earlier_version_is_read_in_todays_keys(tmp_path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('prompt = "a mug"\nt_min = 0.1\nt_max = [0.9, 0.4]\n')
    assert Recipe.from_toml(path) == Recipe("a mug", timesteps="linear:low=0.1,high=0.9..0.4")
    for old, new in (("true", "named"), ("false", "none")):
        path.write_text(f'prompt = "a mug"\nview_words = {old}\n')
        assert Recipe.from_toml(path) == Recipe("a mug", view_words=new)
    path.write_text('prompt = "a mug"\nlr_colours = 0.5\nlr_quats = 1\n')
    assert Recipe.from_toml(path) == Recipe("a mug", lr_colours=(0.5, 0.5), lr_quats=(1.0, 1.0))
    recorded = Recipe("a mug", largest_scale=0.0)
    path.write_text(recorded.to_toml().replace("largest_scale = 0.0\n", ""))
    assert Recipe.from_toml(path) == recorded
    with pytest.raises(ValueError, match=r"t_max is an option .* write --set timesteps=linear:high=0\.9\.\.0\.4$"):
        Recipe("a mug").set(["t_max = 0.9..0.4"])


def test_later_assignments_win() -> None:
    assert Recipe("a mug").set(["steps=3", "steps=4"]).steps == 4


def test_the_dial_goes_up_in_work_and_changes_win() -> None:
    recipes = [preset(quality, "a mug") for quality in QUALITIES]
    assert [recipe.steps for recipe in recipes] == sorted(recipe.steps for recipe in recipes)
    assert preset("draft", "a mug", steps=5).steps == 5
    with pytest.raises(ValueError, match="did you mean 'high'"):
        preset("hihg", "a mug")


def test_keys_are_the_fields() -> None:
    assert keys() == [field.name for field in fields(Recipe)]
