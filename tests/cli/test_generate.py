"""`splatdream generate`: what it writes, what wins over what, and what it refuses before it starts."""

import json
from pathlib import Path

import pytest

import splatdream
from splatdream import Recipe, read_ply, runs
from splatdream.manifest import sha256
from splatdream.recipe import preset
from splatdream_cli.plan import compose


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_prompt_becomes_a_file_with_its_run_beside_it(call, small, tmp_path) -> None:
    result = call("generate", "a red mug", "-o", "mug.ply", *small)
    assert result.exit_code == 0, result.output
    assert len(read_ply("mug.ply")) == 30
    assert files(tmp_path) == [
        "mug.ply",
        "mug.run",
        "mug.run/log.jsonl",
        "mug.run/manifest.json",
        "mug.run/recipe.toml",
    ]
    assert Recipe.from_toml("mug.run/recipe.toml").prompt == "a red mug"


def test_output_that_is_no_terminal_gets_plain_lines(call, small) -> None:
    output = call("generate", "a red mug", "-o", "mug.ply", *small).stdout
    assert "\x1b" not in output
    assert "\r" not in output
    steps = [line for line in output.splitlines() if line.startswith("step ")]
    assert [line.split()[1] for line in steps] == ["1/3", "2/3", "3/3"]
    assert all(word in steps[0] for word in ("loss", "grad", "30 Gaussians", "left"))


def test_the_saved_recipe_repeats_the_run_bit_for_bit(call, small) -> None:
    call("generate", "a red mug", "-o", "mug.ply", *small)
    result = call("generate", "--recipe", "mug.run/recipe.toml", "-o", "again.ply")
    assert result.exit_code == 0, result.output
    assert Path("again.ply").read_bytes() == Path("mug.ply").read_bytes()


def test_the_manifest_describes_the_file_the_weights_and_the_versions(call, small, tiny) -> None:
    call("generate", "a red mug", "-o", "mug.ply", *small, "--seed", "7")
    manifest = json.loads(Path("mug.run/manifest.json").read_text())
    assert manifest["result"]["sha256"] == sha256(Path("mug.ply"))
    assert manifest["result"]["gaussians"] == 30
    assert manifest["seed"] == 7
    assert manifest["versions"]["splatdream"] == splatdream.__version__
    assert manifest["prior"]["sha256"]["unet/diffusion_pytorch_model.safetensors"] == sha256(
        tiny / "unet" / "diffusion_pytorch_model.safetensors"
    )
    steps = [json.loads(line) for line in Path("mug.run/log.jsonl").read_text().splitlines()]
    assert [entry["event"] for entry in steps] == ["begin", "step", "step", "step", "end"]


def test_a_dry_run_tells_the_plan_and_writes_nothing(call, small, tmp_path) -> None:
    result = call("generate", "a red mug", "-o", "mug.ply", *small, "--dry-run")
    assert result.exit_code == 0, result.output
    assert all(word in result.output for word in ("a red mug", "memory", "time", "3 of 2 views at 32 pixels"))
    assert files(tmp_path) == []


def test_previews_come_every_n_steps(call, small) -> None:
    from PIL import Image

    call("generate", "a red mug", "-o", "mug.ply", *small, "--preview-every", "2")
    with Image.open("mug.preview.png") as preview:
        assert preview.size == (66, 66)  # four views of 32 pixels, a gap of 2 between them


def test_flags_win_over_set_over_the_file_over_the_dial(tmp_path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text('prompt = "a ball"\ncount = 11\nseed = 11\nviews = 11\n')
    sets = ["seed=22", "views=22"]
    recipe = compose(None, "draft", file, sets, {"views": 33, "steps": None})
    assert recipe.steps == preset("draft", "a ball").steps
    assert (recipe.count, recipe.seed, recipe.views) == (11, 22, 33)
    assert recipe.prompt == "a ball"
    assert compose("a mug", None, file, [], {}).prompt == "a mug"


def test_without_a_dial_a_recipe_file_means_what_it_means_in_python(tmp_path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text('prompt = "a ball"\nseed = 3\n')
    assert compose(None, None, file, [], {}) == Recipe.from_toml(file)


WRONG_USES = {
    "suffix": (["-o", "mug.pyl"], "unknown output suffix '.pyl'"),
    "folder": (["-o", "nowhere/mug.ply"], "the folder nowhere does not exist"),
    "distiller": (["-o", "m.ply", "--distill", "sdss"], "did you mean 'sds'"),
    "option of a rule": (["-o", "m.ply", "--distill", "sds:guidance=3"], "did you mean 'guidance_scale'"),
    "no number": (["-o", "m.ply", "--distill", "sds:guidance_scale=nan"], "sds:guidance_scale is a float"),
    "cap": (["-o", "m.ply", "--set", "densify=mcmc:cap=0"], "cap must be at least 1; got 0"),
    "count": (["-o", "m.ply", "--set", "count=1"], "count must be at least 2; got 1"),
    "no negative": (["-o", "m.ply", "--distill", "csd:negative_weight=0.5"], "needs a negative prompt"),
    "words of a rule": (["-o", "m.ply", "--distill", "nfsd:negative=gloomy"], "does not know 'gloomy'"),
    "views one by one": (["-o", "m.ply", "--distill", "recon"], "recon takes the spread over 4 views"),
    "a trial of it": (["-o", "m.ply", "--distill", "recon", "--dry-run"], "recon takes"),
    "seeds of it": (["-o", "m.ply", "--distill", "recon", "--seeds", "2"], "recon takes"),
    "recipe key": (["-o", "m.ply", "--set", "stepz=3"], "did you mean 'steps'"),
    "value": (["-o", "m.ply", "--set", "steps=many"], "steps is a int, like"),
    "quality": (["-o", "m.ply", "--quality", "hihg"], "did you mean 'high'"),
    "device": (["-o", "m.ply", "--device", "gpu"], "unknown device 'gpu'"),
    "renderer": (["-o", "m.ply", "--renderer", "gsplat"], "needs device 'cuda'"),
    "deterministic": (["-o", "m.ply", "--deterministic", "--device", "cuda"], "gsplat's backward adds with atomics"),
    "prior": (["-o", "m.ply", "--prior", "nowhere"], "'nowhere' is no prior: the folder does not exist"),
    "recipe file": (["-o", "m.ply", "--recipe", "none.toml"], "none.toml: no such file"),
    "steps": (["-o", "m.ply", "--steps", "0"], "steps must be at least 1; got 0"),
    "flag": (["-o", "m.ply", "--stepz", "0"], "No such option"),
    "no output": ([], "Missing option"),
}


@pytest.mark.parametrize("case", WRONG_USES)
def test_wrong_use_is_refused_in_a_sentence_before_anything_is_written(case, call, small, tmp_path) -> None:
    words, message = WRONG_USES[case]
    result = call("generate", "a red mug", *small, *words)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert files(tmp_path) == []


def test_unknown_words_are_refused_with_the_nearest_known_ones(call, small) -> None:
    result = call("generate", "a red snowmen", "-o", "mug.ply", *small)
    assert result.exit_code == 2
    assert "'snowmen' (near: snowman)" in result.stderr


def test_the_negative_prompt_is_held_to_the_same_words(call, small) -> None:
    result = call("generate", "a red mug", "-o", "mug.ply", *small, "--negative", "gloomy")
    assert result.exit_code == 2
    assert "'gloomy'" in result.stderr


def test_no_prompt_and_no_recipe_is_refused(call) -> None:
    result = call("generate", "-o", "mug.ply")
    assert result.exit_code == 2
    assert "say what to make" in result.stderr


def test_what_exists_is_overwritten_by_force_only(call, small) -> None:
    Path("mug.ply").write_text("mine")
    refused = call("generate", "a red mug", "-o", "mug.ply", *small)
    assert refused.exit_code == 2
    assert "--force overwrites it" in refused.stderr
    assert Path("mug.ply").read_text() == "mine"
    assert call("generate", "a red mug", "-o", "mug.ply", *small, "--force").exit_code == 0
    assert len(read_ply("mug.ply")) == 30


def test_a_broken_off_run_is_forgotten_by_force_only(call, small) -> None:
    Path("mug.run").mkdir()
    Path("mug.run/recipe.toml").write_text('prompt = "from before"')
    Path("mug.run/state-000001.safetensors").write_text("from before")
    refused = call("generate", "a red mug", "-o", "mug.ply", *small)
    assert refused.exit_code == 2
    assert "splatdream resume mug.run goes on with it" in refused.stderr
    assert call("generate", "a red mug", "-o", "mug.ply", *small, "--force").exit_code == 0
    assert not runs.states(Path("mug.run"))


def test_a_run_folder_in_use_is_refused_even_by_force(call, small) -> None:
    with runs.locked(Path("mug.run")):
        result = call("generate", "a red mug", "-o", "mug.ply", *small, "--force")
    assert result.exit_code == 2
    assert "mug.run is in use by process" in result.stderr


def test_a_folder_that_cannot_be_written_is_refused(call, small, monkeypatch) -> None:
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    # Tests often run as root, whom no permission stops.
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    result = call("generate", "a red mug", "-o", "mug.ply", *small)
    assert result.exit_code == 2
    assert "nothing can be written in .: permission denied" in result.stderr


def test_a_full_disk_is_refused(call, small, monkeypatch) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    result = call("generate", "a red mug", "-o", "mug.ply", *small)
    assert result.exit_code == 2
    assert ". has 1 kB left, and the run needs up to 5" in result.stderr


def test_markup_in_what_users_write_is_shown_as_it_is(call, small) -> None:
    refused = call("generate", "a [bold]red[/bold] mug [/nonsense]", "-o", "mug.ply", *small)
    assert "[bold]red[/bold]" in refused.stderr
    assert call("generate", "a red mug", "-o", "[red]mug.ply", *small).stdout.count("[red]mug.ply") == 2


def test_a_failing_run_keeps_its_state_and_says_so(call, small, monkeypatch) -> None:
    monkeypatch.setattr("splatdream.loop.residual", fails_at_call(2))
    result = call("generate", "a red mug", "-o", "mug.ply", *small)
    assert result.exit_code == 1
    # diffusers was loaded before, so its own chatter is not off here, as it is in a fresh process.
    assert result.stderr.endswith("error: out of memory\n")
    assert "the state after step 1 is kept; to try again from there: splatdream resume mug.run" in result.stdout
    assert not Path("mug.ply").exists()
    assert 1 in runs.states(Path("mug.run"))


def fails_at_call(number: int):
    calls = iter(range(1, number + 1))

    def residual(gradient, view) -> float:
        if next(calls) == number:
            raise MemoryError("out of memory")
        return 0.0

    return residual


def test_debugging_shows_where_an_error_came_from(call, small, monkeypatch) -> None:
    def slip(recipe, output):
        raise KeyError("a slip of ours")

    monkeypatch.setattr("splatdream_cli.plan.check_disk", slip)
    told = call("generate", "a red mug", "-o", "mug.ply", *small)
    assert told.exit_code == 1
    assert told.stderr == "error: KeyError: 'a slip of ours' (SPLATDREAM_DEBUG=1 shows where)\n"
    raised = call("generate", "a red mug", "-o", "mug.ply", *small, SPLATDREAM_DEBUG="1")
    assert isinstance(raised.exception, KeyError)


def test_another_format_does_not_silently_forget_how_the_first_file_was_made(call, small) -> None:
    assert call("generate", "a red mug", "-o", "mug.ply", *small).exit_code == 0
    refused = call("generate", "a red mug", "-o", "mug.splat", *small)
    assert refused.exit_code == 2
    assert "mug.run tells how mug.ply was made" in " ".join(refused.output.split())
    assert call("generate", "a red mug", "-o", "mug.splat", "--force", *small).exit_code == 0
