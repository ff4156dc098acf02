"""`splatdream generate --init`: what a run begins with, what of it is written down, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
import trimesh
from shapes import shap_e_folder

from splatdream import Recipe, runs
from splatdream.export import write
from splatdream.init.sphere import Sphere
from splatdream.manifest import sha256
from splatdream_cli.named import beginning


def box(path: Path) -> Path:
    trimesh.creation.box((2, 1, 1)).export(path)
    return path


def ball(path: Path) -> Path:
    write(Sphere(opacity=0.9)(50, torch.Generator().manual_seed(0)), path)
    return path


def saved_recipe() -> Recipe:
    return Recipe.from_toml("mug.run/recipe.toml")


def test_a_path_alone_says_what_it_is_by_its_suffix_or_its_beginning(tmp_path) -> None:
    trimesh.PointCloud(torch.rand(9, 3).numpy()).export(tmp_path / "dots.ply")
    for path in (
        box(tmp_path / "box.obj"),
        box(tmp_path / "box.ply"),
        box(tmp_path / "box.glb"),
        tmp_path / "dots.ply",
    ):
        assert beginning(str(path)) == f"points:file={path}"
    for name in ("ball.ply", "ball.compressed.ply", "ball.spz", "ball.splat", "ball.sog", "ball.glb", "ball.gltf"):
        assert beginning(str(ball(tmp_path / name))) == f"splat:file={tmp_path / name}"
    assert beginning("sphere:radius=0.3") == "sphere:radius=0.3"


def test_a_run_begins_with_a_mesh_and_its_manifest_has_the_hash(call, small, tmp_path) -> None:
    box(tmp_path / "box.obj")
    result = call("generate", "a red mug", "-o", "mug.ply", *small, "--init", "box.obj")
    assert result.exit_code == 0, result.output
    assert saved_recipe().init == f"points:file={tmp_path / 'box.obj'}"
    manifest = json.loads(Path("mug.run/manifest.json").read_text())
    assert manifest["init"]["sha256"]["box.obj"] == sha256(tmp_path / "box.obj")
    assert manifest["result"]["gaussians"] == 30
    again = call("reproduce", "mug.run")
    assert again.exit_code == 0, again.output
    box(tmp_path / "box.obj").write_text((tmp_path / "box.obj").read_text().replace("1.0", "0.9"))
    other = call("reproduce", "mug.run", "--force")
    assert other.exit_code == 1
    assert "not as it was: init sha256 box.obj: " in other.stdout


def test_a_run_that_began_with_a_ball_says_nothing_of_files(call, small) -> None:
    call("generate", "a red mug", "-o", "mug.ply", *small, "--init", "sphere:radius=0.4")
    assert "init" not in json.loads(Path("mug.run/manifest.json").read_text())
    assert saved_recipe().init == "sphere:radius=0.4"


def test_a_run_goes_on_from_another_splat_with_all_its_gaussians(call, small, tmp_path) -> None:
    ball(tmp_path / "ball.spz")
    plan = call("generate", "a red mug", "-o", "mug.ply", *small, "--init", "ball.spz", "--dry-run")
    assert f"begins     splat:file={tmp_path / 'ball.spz'}" in plan.stdout
    assert "Gaussians  50" in plan.stdout
    result = call("generate", "a red mug", "-o", "mug.ply", *small, "--init", "ball.spz")
    assert result.exit_code == 0, result.output
    assert saved_recipe().count == 50


def test_a_run_begins_with_what_shap_e_makes_of_the_prompt(call, small, tmp_path) -> None:
    shap_e_folder(tmp_path / "shap-e")
    words = ["generate", "a red mug", "-o", "mug.ply", *small, "--init", "shap-e:model=shap-e,steps=2,grid=12"]
    result = call(*words)
    assert result.exit_code == 0, result.output
    hashes = json.loads(Path("mug.run/manifest.json").read_text())["init"]["sha256"]
    assert "prior/diffusion_pytorch_model.safetensors" in hashes
    assert str(tmp_path / "shap-e") in saved_recipe().init
    assert call("reproduce", "mug.run").exit_code == 0


def test_a_file_that_has_changed_matters_only_before_the_first_checkpoint(call, small, tmp_path, monkeypatch) -> None:
    box(tmp_path / "box.obj")
    calls = iter(range(9))
    monkeypatch.setattr("splatdream.loop.residual", lambda gradient, view: 1 / (next(calls) < 1))
    assert call("generate", "a red mug", "-o", "mug.ply", *small, "--init", "box.obj").exit_code == 1
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "box.obj").unlink()
    states = runs.states(Path("mug.run"))
    kept = {path: path.read_bytes() for path in states.values()}
    for path in kept:
        path.unlink()
    refused = call("resume", "mug.run")
    assert refused.exit_code == 1
    assert "is not what mug.run began with; put its files back" in refused.stderr
    for path, content in kept.items():
        path.write_bytes(content)
    gone_on = call("resume", "mug.run")
    assert gone_on.exit_code == 0, gone_on.output
    assert "may differ" not in gone_on.stdout


WRONG = {
    "no file": ("chair.obj", "there is no file chair.obj to begin with"),
    "no name": ("chiar", "unknown init 'chiar': choose one of sphere, points, splat, shap-e"),
    "no option": ("points:fiel=a.obj", "did you mean 'file'"),
    "no path": ("points", "points needs a file: write points:file=PATH"),
    "missing": ("splat:file=a.ply", "to begin with"),
    "empty": ("empty.obj", "empty.obj"),
    "nan": ("nan.xyz", "1 of 2 points are not finite"),
    "one": ("one.obj", "holds a single point"),
    "far": ("points:file=far.xyz,radius=0", "cameras see 1; radius=1 fits it into that"),
    "no splat": ("splat:file=nan.xyz", "unknown input suffix '.xyz'"),
    "comma": ("a,b.xyz", "a path with a comma"),
    "no model": ("shap-e:model=nowhere", "'nowhere' is no Shap-E"),
    "range": ("sphere:opacity=1", "opacity is 1.0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_begin_a_run_is_refused_before_anything_is_written(case, call, small, tmp_path) -> None:
    files = {"empty.obj": "", "nan.xyz": "0 0 0\nnan 0 0", "one.obj": "v 1 1 1", "a,b.xyz": "0 0 0\n1 1 1"}
    for name, content in (files | {"far.xyz": "0 0 0\n99 0 0\n0 1 0"}).items():
        (tmp_path / name).write_text(content)
    before = sorted(tmp_path.iterdir())
    init, message = WRONG[case]
    result = call("generate", "a red mug", "-o", "mug.ply", *small, "--init", init)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert sorted(tmp_path.iterdir()) == before


def test_a_recipe_that_ships_is_taken_by_its_name(call, small) -> None:
    result = call("generate", "a red mug", "-o", "mug.ply", *small, "--recipe", "luciddreamer", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "ism:guidance_scale=7.5" in result.stdout
    assert "3 of 2 views at 32 pixels" in result.stdout
    wrong = call("generate", "a red mug", "-o", "mug.ply", *small, "--recipe", "luciddream")
    assert wrong.exit_code == 2
    assert "unknown recipe 'luciddream': choose one of draft, normal, high, dreamgaussian" in wrong.stderr


def test_a_file_wins_over_a_recipe_of_its_name(call, small) -> None:
    Path("sdi").write_text('prompt = "a ball"\nseed = 5\n')
    assert call("generate", "-o", "mug.ply", *small, "--recipe", "sdi").exit_code == 0
    assert (saved_recipe().prompt, saved_recipe().seed) == ("a ball", 5)


def test_the_recipes_are_listed(call) -> None:
    output = call("list", "recipe").stdout
    assert "luciddreamer" in output
    assert "Interval Score Matching" in output
