"""Shap-E on tiny random weights: its surface is that of its own network, and nothing else is ever opened."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ShapEPipeline
from shapes import shap_e_folder

from splatdream.priors.models import NotHere
from splatdream.priors.shap_e import Shape, crossings, shape_folder

CPU = torch.device("cpu")
QUICK = {"guidance_scale": 3.0, "steps": 2, "grid": 12}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shap_e_folder(tmp_path_factory.mktemp("shap-e") / "tiny")


def test_points_are_the_vertices_of_marching_cubes():
    skimage = pytest.importorskip("skimage.measure")
    line = torch.linspace(-1, 1, 24)
    corners = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), dim=-1)
    depths = 0.7 - (corners * torch.tensor([1.0, 1.3, 0.9])).norm(dim=-1) + 0.1 * (5 * corners[..., 0]).sin()
    points = crossings(corners, depths)
    vertices, *_ = skimage.marching_cubes(depths.numpy(), 0.0)
    theirs = torch.from_numpy(np.unique(vertices, axis=0)).float() * (2 / 23) - 1
    assert len(points) == len(theirs)
    assert (points[:, None] - theirs).norm(dim=-1).amin(1).max() < 1e-5


def test_points_lie_on_the_surface_that_the_stock_pipeline_s_network_tells(folder):
    """The stock decoder's own grid, of 128 points a side, is asked; ours of 64 may be one of its steps off."""
    points, colours = Shape(folder, CPU)("a red mug", **(QUICK | {"grid": 64}), generator=seeded())
    assert len(points) > 10
    assert points.abs().max() <= 1
    assert 0 <= colours.min() <= colours.max() <= 1
    stock = ShapEPipeline.from_pretrained(folder)
    stock.set_progress_bar_config(disable=True)
    latents = stock(
        "a red mug", generator=seeded(), guidance_scale=3.0, num_inference_steps=2, output_type="latent"
    ).images
    stock.shap_e_renderer.decode_to_image(latents, CPU, size=64, n_coarse_samples=2, n_fine_samples=2)  # takes weights
    asked = stock.shap_e_renderer.mlp(
        position=points[None], direction=None, ts=None, nerf_level="fine", rendering_mode="stf"
    )
    assert torch.allclose(asked.channels[0], colours, atol=1e-5)
    everywhere = stock.shap_e_renderer.mlp(
        position=2 * torch.rand(1, 2000, 3, generator=seeded()) - 1,
        direction=None,
        ts=None,
        nerf_level="fine",
        rendering_mode="stf",
    )
    assert asked.signed_distance.abs().median() < everywhere.signed_distance.abs().median()


def test_the_same_seed_and_words_give_the_same_points_and_others_do_not(folder):
    shape = Shape(folder, CPU)
    one, same = (shape("a red mug", **QUICK, generator=seeded())[0] for _ in range(2))
    assert torch.equal(one, same)
    for words, seed in (("a red mug", 1), ("a blue ball", 0)):
        other, _ = shape(words, **QUICK, generator=seeded(seed))
        assert other.shape != one.shape or not torch.equal(other, one)


def test_a_folder_without_safetensors_is_refused_with_where_there_are_some(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "old")
    weights = tmp_path / "old" / "shap_e_renderer" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    message = r"never opened: `splatdream prior fetch openai/shap-e@refs/pr/11`"
    with pytest.raises(FileNotFoundError, match=message):
        shape_folder(str(tmp_path / "old"))


def test_what_is_no_shap_e_is_refused(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="is no Shap-E: the folder does not exist"):
        shape_folder("nowhere")
    with pytest.raises(NotHere, match="openai/shap-e is neither a folder here nor fetched"):
        shape_folder("openai/shap-e", tmp_path)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    with pytest.raises(ValueError, match="holds a StableDiffusionPipeline, not a ShapEPipeline"):
        shape_folder(str(tmp_path))
    shutil.copytree(folder, tmp_path / "torn")
    shutil.rmtree(tmp_path / "torn" / "tokenizer")
    with pytest.raises(FileNotFoundError, match=r"is not complete: tokenizer/tokenizer\.json is missing"):
        shape_folder(str(tmp_path / "torn"))


def test_a_fetched_repository_is_found_by_its_address(folder, tmp_path):
    snapshot = tmp_path / "models--openai--shap-e" / "snapshots" / "abc"
    shutil.copytree(folder, snapshot)
    assert shape_folder("openai/shap-e", tmp_path) == snapshot
    assert shape_folder("openai/shap-e@abc", tmp_path) == snapshot
    with pytest.raises(NotHere):
        shape_folder("openai/shap-e@refs/pr/11", tmp_path)
    reference = tmp_path / "models--openai--shap-e" / "refs" / "refs" / "pr"
    reference.mkdir(parents=True)
    (reference / "11").write_text("abc")
    assert shape_folder("openai/shap-e@refs/pr/11", tmp_path) == snapshot
