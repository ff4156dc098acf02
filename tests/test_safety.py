"""Nothing in a file is executed: pickles that would betray themselves lie wherever splatdream reads."""

import json
import pickle
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from tiny import tiny_prior_folder

from splatdream import runs
from splatdream.catalog import CATALOG
from splatdream.checkpoint import load_recipe, load_state
from splatdream.export import read
from splatdream.manifest import read_manifest
from splatdream.priors import load_prior
from splatdream.recipe import Recipe


class Trap:
    """A pickle of it makes the file `sprung` when it is opened."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self):
        return Path.touch, (self.sprung,)


@pytest.fixture
def trap(tmp_path) -> bytes:
    content = pickle.dumps(Trap(tmp_path / "sprung"))
    pickle.loads(content)
    assert (tmp_path / "sprung").exists()  # the trap works
    (tmp_path / "sprung").unlink()
    return content


@pytest.mark.parametrize("suffix", [*CATALOG["reader"]])
def test_a_pickle_in_place_of_a_splat_is_refused_unopened(suffix, trap, tmp_path) -> None:
    path = tmp_path / f"mug{suffix}"
    path.write_bytes(trap)
    with pytest.raises(ValueError, match="mug"):
        read(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("load", [load_state, load_recipe])
@pytest.mark.parametrize("archive", [False, True])
def test_a_pickle_in_place_of_a_state_is_refused_unopened(load, archive, trap, tmp_path) -> None:
    path = tmp_path / "state-000001.safetensors"
    if archive:
        torch.save({"splats": Trap(tmp_path / "sprung")}, path)
    else:
        path.write_bytes(trap)
    with pytest.raises(ValueError, match="is no complete state"):
        load(path)
    assert not (tmp_path / "sprung").exists()


def test_weights_in_a_pickle_are_refused_unopened(trap, tmp_path) -> None:
    folder = tiny_prior_folder(tmp_path / "prior")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"weight": Trap(tmp_path / "sprung")}, folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises((OSError, ValueError), match="safetensors"):
        load_prior(str(folder), "a red mug")
    assert not (tmp_path / "sprung").exists()


def test_code_beside_a_prior_is_not_run(tmp_path) -> None:
    """The hub's way to ship code: a configuration that names a class in a file of its own."""
    folder = tiny_prior_folder(tmp_path / "prior")
    code = f"from pathlib import Path\nPath({str(tmp_path / 'sprung')!r}).touch()\nclass Other: ...\n"
    for part, name in (("text_encoder", "config.json"), ("tokenizer", "tokenizer_config.json")):
        table = json.loads((folder / part / name).read_text())
        table["auto_map"] = {"AutoTokenizer": ["other.Other", None], "AutoModel": "other.Other"}
        (folder / part / name).write_text(json.dumps(table))
        (folder / part / "other.py").write_text(code)
    with suppress(OSError, ValueError):
        load_prior(str(folder), "a red mug")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("key", ["distill", "densify", "timesteps", "view_words", "init", "renderer"])
def test_a_recipe_names_parts_of_the_catalogue_and_nothing_else(key, tmp_path) -> None:
    from splatdream.loop import dream

    (tmp_path / "recipe.toml").write_text(f'prompt = "a red mug"\n{key} = "os:abort"\n')
    recipe = Recipe.from_toml(tmp_path / "recipe.toml").replace(device="cpu")
    with pytest.raises(ValueError, match=r"unknown .* 'os'|'os:abort'"):
        next(dream(recipe))


def test_a_manifest_and_a_log_are_read_as_data(trap, tmp_path) -> None:
    folder = tmp_path / "mug.run"
    folder.mkdir()
    for name in (runs.MANIFEST, runs.LOG, runs.RECIPE):
        (folder / name).write_bytes(trap)
    with pytest.raises(ValueError, match="is no manifest"):
        read_manifest(folder)
    with pytest.raises(ValueError, match=r"mug\.run"):
        runs.read(folder)
    assert not (tmp_path / "sprung").exists()
