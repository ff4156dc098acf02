"""Runs that survive: whatever breaks one off, it ends with the bytes of a run that nothing disturbed."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from families import sdxl_folder
from safetensors.torch import load_file, save_file
from tiny import tiny_prior_folder

from splatdream import checkpoint, loop, read_ply, runs, session
from splatdream.cameras import orbit
from splatdream.checkpoint import load_state
from splatdream.manifest import read_manifest
from splatdream.priors import load_prior
from splatdream.recipe import Recipe

STEPS, EVERY = 7, 2


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_prior_folder(tmp_path_factory.mktemp("prior") / "tiny")


@pytest.fixture(scope="module", autouse=True)
def loaded_once(weights) -> Iterator[None]:
    """The prior, for all runs of this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "load_prior", cache(session.load_prior))
        yield


@pytest.fixture(scope="module")
def recipe(weights) -> Recipe:
    return Recipe(
        "a red mug",
        prior=str(weights),
        steps=STEPS,
        views=1,
        count=30,
        renderer="dense",
        device="cpu",
        distill="sds",
        densify="mcmc:start=0.0,every=0.2",
    )


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory) -> bytes:
    """The result of a run that nothing disturbed."""
    output = tmp_path_factory.mktemp("whole") / "mug.ply"
    return made(session.start(recipe, output, checkpoint_every=EVERY), output)


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "mug.ply"


def made(steps: Iterator[loop.Step], output: Path) -> bytes:
    """What a run writes when it is followed to its end."""
    for _ in steps:
        pass
    assert runs.finished(runs.run_folder(output))
    return output.read_bytes()


def broken_off(recipe: Recipe, output: Path, after: int) -> Path:
    """The folder of a run whose process died without a word after so many steps."""
    crash = output.with_name("crash")
    shutil.rmtree(crash, ignore_errors=True)
    steps = session.start(recipe, output, checkpoint_every=EVERY)
    for _ in range(after):
        next(steps)
    # As it lies at that moment: what leaving the loop would save comes later.
    shutil.copytree(runs.run_folder(output), crash)
    steps.close()
    output.unlink(missing_ok=True)
    shutil.rmtree(runs.run_folder(output))
    return crash.rename(runs.run_folder(output))


@pytest.mark.parametrize("after", [3, STEPS])
def test_a_run_that_died_after_any_step_ends_with_the_same_bytes(after, recipe, output, whole) -> None:
    folder = broken_off(recipe, output, after)
    assert not output.exists()
    assert made(session.resume(folder), output) == whole


def test_a_run_that_died_before_its_first_state_begins_from_its_recipe(recipe, output, whole) -> None:
    folder = broken_off(recipe, output, 1)
    for path in runs.states(folder).values():
        path.unlink()
    assert made(session.resume(output), output) == whole


def test_leaving_the_loop_saves_state_and_splat(recipe, output, whole) -> None:
    for step in (steps := session.start(recipe, output, checkpoint_every=EVERY)):
        if step.index == 4:
            break
    steps.close()
    assert max(runs.states(runs.run_folder(output))) == 5
    assert len(read_ply(output)) == step.count
    assert made(session.resume(output), output) == whole


def test_the_last_two_regular_states_are_kept_and_one_that_was_left_at(recipe, output) -> None:
    steps = session.start(recipe, output, checkpoint_every=EVERY)
    kept = [(next(steps), list(runs.states(runs.run_folder(output))))[1] for _ in range(5)]
    assert kept == [[0], [2, 0], [2, 0], [4, 2], [4, 2]]
    steps.close()
    assert list(runs.states(runs.run_folder(output))) == [5, 4, 2]
    resumed = session.resume(output)
    next(resumed)
    assert list(runs.states(runs.run_folder(output))) == [6, 4]
    resumed.close()


def test_a_finished_run_has_no_step_left(recipe, output, whole) -> None:
    assert made(session.start(recipe, output, checkpoint_every=EVERY), output) == whole
    assert list(session.resume(output)) == []
    assert output.read_bytes() == whole


def test_damaged_states_are_told_and_the_one_before_is_used(recipe, output, whole) -> None:
    folder, told = broken_off(recipe, output, 5), []
    path = next(iter(runs.states(folder).values()))
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    assert made(session.resume(folder, say=told.append), output) == whole
    assert len(told) == 1
    assert "checksum is wrong; the one before is used" in told[0]


def test_half_written_files_of_a_process_that_died_are_swept_away(recipe, output, whole) -> None:
    folder = broken_off(recipe, output, 3)
    leavings = [folder / ".state-000004.safetensors.0a1b.tmp", output.with_name(".mug.ply.0a1b.tmp")]
    for path in leavings:
        path.write_bytes(b"half")
    assert made(session.resume(folder), output) == whole
    assert not any(path.exists() for path in leavings)


def test_a_run_goes_on_with_as_many_threads_as_it_began(recipe, output) -> None:
    before = torch.get_num_threads()
    with session.threads(3):
        folder = broken_off(recipe, output, 3)
    assert torch.get_num_threads() == before
    resumed = session.resume(folder)
    next(resumed)
    assert torch.get_num_threads() == 3
    resumed.close()
    assert torch.get_num_threads() == before


def poison(monkeypatch: pytest.MonkeyPatch, at: int, always: bool) -> None:
    """The prior answers NaN in one step; at a gentler pace too, if `always`."""
    turn = loop.turn

    def poisoned(recipe, state, prior, *others):
        healthy = prior.predict
        if state.step == at and (always or state.pace == 1.0):
            monkeypatch.setattr(prior, "predict", lambda *arguments: spoilt(healthy(*arguments)))
        try:
            return turn(recipe, state, prior, *others)
        finally:
            monkeypatch.setattr(prior, "predict", healthy)

    monkeypatch.setattr(loop, "turn", poisoned)


def spoilt(prediction):
    return replace(prediction, value=prediction.value * float("nan"))


def test_numbers_that_are_not_finite_send_the_run_back_to_go_on_gently(recipe, output, whole, monkeypatch) -> None:
    poison(monkeypatch, 5, always=False)
    told = []
    gentle = made(session.start(recipe, output, checkpoint_every=EVERY, say=told.append), output)
    assert told == ["step 5: the gradient is not finite: going on from step 4 with 0.5 of the learning rates"]
    assert gentle != whole
    broken_off(recipe, output, 5)  # before the roll-back or after it: that decides nothing
    assert made(session.resume(output), output) == gentle
    broken_off(recipe, output, 6)
    assert made(session.resume(output), output) == gentle


def test_a_run_left_between_checkpoints_goes_back_no_less_far(recipe, output, monkeypatch) -> None:
    poison(monkeypatch, 5, always=False)
    gentle = made(session.start(recipe, output, checkpoint_every=4), output)
    steps = session.start(recipe, output, checkpoint_every=4)
    for _ in range(5):
        next(steps)
    steps.close()  # with a state after step 5, of which the roll-back must not make use
    assert made(session.resume(output), output) == gentle


def test_a_gentler_pace_that_does_not_help_ends_the_run_with_what_led_to_it_kept(recipe, output, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        poison(patch, 5, always=False)
        gentle = made(session.start(recipe, output, checkpoint_every=EVERY), output)
    folder = runs.run_folder(output)
    with monkeypatch.context() as patch:
        poison(patch, 5, always=True)
        with pytest.raises(FloatingPointError, match=r"step 5: the gradient is not finite, even at 0.5"):
            made(session.start(recipe, output, checkpoint_every=EVERY), output)
        evidence = load_state(runs.states(folder)[5])
        assert (evidence.step, evidence.pace) == (5, 0.5)
        with pytest.raises(FloatingPointError, match="step 5: the gradient is not finite"):
            next(loop.dream(recipe, state=evidence))
    assert [entry["to"] for entry in runs.events(folder, "roll back")] == [4]
    assert made(session.resume(folder), output) == gentle


def test_a_recipe_that_was_edited_in_between_is_refused(recipe, output) -> None:
    folder = broken_off(recipe, output, 3)
    (folder / runs.RECIPE).write_text(recipe.replace(seed=1).to_toml())
    with pytest.raises(ValueError, match=r"recipe\.toml is not the recipe of state-000002"):
        next(session.resume(folder))


def test_other_weights_are_refused_and_another_machine_is_told(recipe, output, weights, whole, tmp_path) -> None:
    folder, torch_version = broken_off(recipe, output, 3), version("torch")
    log = (folder / runs.LOG).read_text()
    begin = json.loads(log.splitlines()[0])
    name = next(iter(begin["origin"]["prior"]["sha256"]))
    begin["origin"]["prior"]["sha256"][name] = "0"
    runs.log(folder, **begin)
    with pytest.raises(ValueError, match=r"are not those that .* began with"):
        next(session.resume(folder))
    (folder / runs.LOG).write_text(log.replace(f'"torch": "{torch_version}"', '"torch": "1.0"'))
    told = []
    assert made(session.resume(folder, say=told.append), output) == whole
    assert told == [f"the result may differ in its last bits: versions torch: 1.0, now {torch_version}"]
    assert (read_manifest(folder) or {})["changes"] == [f"versions torch: 1.0, now {torch_version}"]


def test_a_disk_that_fills_up_costs_nothing_that_was_saved(recipe, output, whole, monkeypatch) -> None:
    full = [False]
    save = session.save_state

    def filling(state, path, recipe) -> None:
        if state.step == 4 and full[0]:
            raise OSError(28, "No space left on device", str(path))
        save(state, path, recipe)

    monkeypatch.setattr(session, "save_state", filling)
    full[0] = True
    steps = session.start(recipe, output, checkpoint_every=EVERY)
    with pytest.raises(
        OSError, match=r"cannot save the state after step 4: no space left on device; .* step 2 is whole"
    ):
        made(steps, output)
    full[0] = False
    assert made(session.resume(output), output) == whole


def test_a_folder_in_use_is_refused(recipe, output) -> None:
    first = session.start(recipe, output, checkpoint_every=EVERY)
    next(first)
    for other in (session.start(recipe, output), session.resume(output)):
        with pytest.raises(runs.Busy, match="in use by process"):
            next(other)
    first.close()


@pytest.fixture
def large(monkeypatch, tmp_path) -> Path:
    """A prior with two text encoders and a summary, which for once count as large."""
    monkeypatch.setattr(session, "SMALL", 0)
    return sdxl_folder(tmp_path / "xl")


def silent(text: str, negative: bool) -> None:
    raise AssertionError(f"encoded {text!r} although the answer was kept")


def test_what_large_text_encoders_answer_is_kept_from_run_to_run_bit_for_bit(large, tmp_path, monkeypatch) -> None:
    recipe, cameras = Recipe("a red mug", prior=str(large), device="cpu"), orbit(4, 32)
    before = session.loaded(recipe, tmp_path / "cache").condition("a red mug", "", cameras)
    again = session.loaded(recipe, tmp_path / "cache")
    monkeypatch.setattr(again.family, "embed", silent)  # type: ignore[attr-defined]
    after = again.condition("a red mug", "", cameras)
    assert torch.equal(after.cond.tokens, before.cond.tokens)
    assert torch.equal(after.cond.extras["pooled"], before.cond.extras["pooled"])
    assert torch.equal(after.uncond.tokens, before.uncond.tokens)
    with pytest.raises(AssertionError, match="a blue mug"):
        again.condition("a blue mug", "", cameras)


def test_answers_of_other_weights_or_threads_are_not_used(large, tmp_path, monkeypatch) -> None:
    recipe, cameras = Recipe("a red mug", prior=str(large), device="cpu"), orbit(1, 32)
    session.loaded(recipe, tmp_path / "cache").condition("a red mug", "", cameras)
    with session.threads(torch.get_num_threads() + 1):
        other = session.loaded(recipe, tmp_path / "cache")
    monkeypatch.setattr(other.family, "embed", silent)  # type: ignore[attr-defined]
    with pytest.raises(AssertionError):
        other.condition("a red mug", "", cameras)
    (path,) = (large / "text_encoder_2").glob("*.safetensors")
    save_file({name: 2 * value for name, value in load_file(path).items()}, path, metadata={"format": "pt"})
    other = session.loaded(recipe, tmp_path / "cache")
    monkeypatch.setattr(other.family, "embed", silent)  # type: ignore[attr-defined]
    with pytest.raises(AssertionError):
        other.condition("a red mug", "", cameras)


def test_small_text_encoders_are_asked_each_time(recipe, tmp_path) -> None:
    session.loaded(recipe, tmp_path / "cache").condition("a red mug", "", orbit(1, 32))
    assert not (tmp_path / "cache").exists()


def test_a_run_in_portions_is_resumed_in_portions(weights, recipe, output, whole) -> None:
    recipe = recipe.replace(views=4, size=32)
    prior = load_prior(str(weights), "a red mug")
    prior.portions.views = 1  # type: ignore[attr-defined]
    *_, _ = session.start(recipe, output, prior=prior, checkpoint_every=EVERY)
    done = output.read_bytes()
    prior.portions.views = 1  # type: ignore[attr-defined]
    steps = session.start(recipe, output, prior=prior, checkpoint_every=EVERY)
    next(steps)
    steps.close()
    prior.portions.views = None  # type: ignore[attr-defined]
    assert made(session.resume(output, prior=prior), output) == done
    assert prior.portions.views == 1  # type: ignore[attr-defined]
    assert (read_manifest(runs.run_folder(output)) or {})["portions"] == 1


def test_a_state_of_another_version_is_kept_and_refused(recipe, output, whole, monkeypatch) -> None:
    folder = broken_off(recipe, output, 5)
    before = runs.states(folder)
    with monkeypatch.context() as later:
        later.setattr(checkpoint, "FORMAT", "splatdream state 99")
        with pytest.raises(ValueError, match="go on with the version that began the run"):
            made(session.resume(folder), output)
    assert runs.states(folder) == before
    assert made(session.resume(folder), output) == whole


def test_a_want_of_memory_that_made_portions_smaller_is_kept(weights, recipe, output) -> None:
    recipe = recipe.replace(views=4, size=32)
    prior = load_prior(str(weights), "a red mug")
    steps = session.start(recipe, output, prior=prior, checkpoint_every=EVERY)
    next(steps)
    prior.portions.shrink(4, torch.OutOfMemoryError("CUDA out of memory"))  # type: ignore[attr-defined]
    next(steps)
    next(steps)
    steps.close()
    prior.portions.views = None  # type: ignore[attr-defined]
    *_, _ = session.resume(output, prior=prior)
    assert prior.portions.views == 2  # type: ignore[attr-defined]
    manifest = read_manifest(runs.run_folder(output)) or {}
    assert manifest["changes"] == ["memory ran out in step 2: all views at once, then 2"]


@pytest.mark.parametrize("error", [OSError(116, "Stale file handle"), torch.OutOfMemoryError("CUDA out of memory")])
def test_a_state_that_cannot_be_read_at_present_is_not_taken_for_damaged(error, recipe, output, whole, monkeypatch):
    folder = broken_off(recipe, output, 5)
    before = runs.states(folder)

    def failing(*arguments: object, **options: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "safe_open", failing) if isinstance(error, OSError) else patch.setattr(
            checkpoint, "State", failing
        )
        with pytest.raises(type(error)):
            made(session.resume(folder), output)
    assert runs.states(folder) == before
    assert made(session.resume(folder), output) == whole


def test_where_no_state_is_whole_the_run_begins_again_and_says_so(recipe, output, whole) -> None:
    folder, told = broken_off(recipe, output, 5), []
    steps = session.resume(folder, say=told.append)
    for path in runs.states(folder).values():
        path.write_bytes(path.read_bytes()[:-1])
    next(steps)
    assert told[-1] == "no state is whole: beginning again from the recipe"
    assert "the one before is used" not in told[-2]
    assert sorted(path.name for path in folder.glob("*.damaged")) == ["state-000002.damaged", "state-000004.damaged"]
    assert made(steps, output) == whole
    assert not list(folder.glob("*.damaged"))


def test_a_bit_flipped_in_the_words_of_a_state_is_damage_and_not_another_version(recipe, output, whole) -> None:
    folder, told = broken_off(recipe, output, 5), []
    path = next(iter(runs.states(folder).values()))
    path.write_bytes(path.read_bytes().replace(b"splatdream state", b"rplatdream state"))
    assert made(session.resume(folder, say=told.append), output) == whole
    assert "its checksum is wrong; the one before is used" in told[0]


def test_a_roll_back_passes_over_a_damaged_state(recipe, output, monkeypatch) -> None:
    poison(monkeypatch, 5, always=False)
    steps = session.start(recipe, output, checkpoint_every=EVERY)
    for _ in range(5):
        next(steps)
    path = runs.states(runs.run_folder(output))[4]
    path.write_bytes(path.read_bytes()[:-1])
    made(steps, output)
    assert [entry["to"] for entry in runs.events(runs.run_folder(output), "roll back")] == [2]


def test_a_stop_that_comes_when_the_result_stands_leaves_it(recipe, output, whole, monkeypatch) -> None:
    def interrupted(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        steps = session.start(recipe, output, checkpoint_every=EVERY)
        next(steps)
        patch.setattr(runs, "drop_states", interrupted)
        patch.setattr(session, "write", write_once(session.write))
        with pytest.raises(KeyboardInterrupt):
            made(steps, output)
    assert output.read_bytes() == whole
    assert list(session.resume(output)) == []
    assert not runs.states(runs.run_folder(output))


def write_once(write):
    """The function, for a single call."""
    calls = iter([write])
    return lambda *arguments: next(calls)(*arguments)


def test_what_fails_before_the_first_step_leaves_nothing_behind(recipe, output, monkeypatch) -> None:
    def silent(*arguments: object) -> None:
        raise ValueError("the prompt holds nothing that the prior can read")

    monkeypatch.setattr(loop, "turn", silent)
    with pytest.raises(ValueError, match="nothing that the prior can read"):
        made(session.start(recipe, output), output)
    assert list(output.parent.iterdir()) == []


def test_a_configuration_that_was_changed_is_as_good_as_other_weights(recipe, output, weights, tmp_path) -> None:
    moved = shutil.copytree(weights, tmp_path / "moved")
    folder = broken_off(recipe.replace(prior=str(moved)), output, 3)
    path = moved / "scheduler" / "scheduler_config.json"
    path.write_text(path.read_text().replace("v_prediction", "epsilon"))
    with pytest.raises(ValueError, match="are not those that"):
        next(session.resume(folder))
