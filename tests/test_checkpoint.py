"""States in files: to go on from one is as if the run had never stopped."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from exact import oracle
from safetensors.torch import save_file

from splatdream.checkpoint import checksum, load_recipe, load_state, save_state, snapshot
from splatdream.corpus.scenes import Scene, Thing, build
from splatdream.loop import State, dream
from splatdream.recipe import Recipe

SIZE = 16
LADDER = "linear:high=0.9..0.4"
RECIPE = Recipe('a "red" ball', steps=6, views=2, count=40, device="cpu", renderer="dense", timesteps=LADDER)
DENSIFIERS = ["fixed", "mcmc:start=0.0,every=0.2", "gradient:start=0.0,every=0.3,grow_gradient=1e-9"]


@pytest.fixture(scope="module")
def prior():
    return oracle(build(Scene(Thing("ball"))), SIZE)


@pytest.fixture
def state(prior) -> State:
    """After three steps, with something in every part."""
    recipe = RECIPE.replace(densify=DENSIFIERS[2])
    steps = dream(recipe, prior=prior)
    reached = [next(steps) for _ in range(3)][-1].state
    return replace(reached, rule={"weights": torch.randn(3, 4, generator=torch.Generator().manual_seed(1))})


def tensors(state: State) -> dict[str, torch.Tensor]:
    """Every tensor of a state by a name of its own."""
    groups = {
        "splats": state.splats.parameters(),
        "optimiser": state.optimiser.state_dict(),
        "densifier": state.densifier,
        "rule": state.rule or {},
        "generators": {name: generator.get_state() for name, generator in state.generators.items()},
    }
    return {f"{group} {name}": value for group, values in groups.items() for name, value in values.items()}


def same(one: State, other: State) -> None:
    ours, theirs = tensors(one), tensors(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert value.dtype == theirs[name].dtype, name
        assert torch.equal(value, theirs[name]), name
    assert one.step == other.step
    assert (one.rule is None) == (other.rule is None)


def test_a_state_survives_its_file_bit_for_bit(state, tmp_path) -> None:
    save_state(state, tmp_path / "state", RECIPE)
    same(load_state(tmp_path / "state"), state)
    assert load_recipe(tmp_path / "state") == RECIPE


@pytest.mark.parametrize("rule", [None, {}])
def test_a_rule_without_state_stays_what_it_is(rule, state, tmp_path) -> None:
    save_state(replace(state, rule=rule), tmp_path / "state", RECIPE)
    assert load_state(tmp_path / "state").rule == rule


@pytest.mark.parametrize("densify", DENSIFIERS)
def test_a_run_taken_up_from_a_file_equals_one_that_never_stopped(densify, prior, tmp_path) -> None:
    recipe = RECIPE.replace(densify=densify)
    *_, whole = dream(recipe, prior=prior)
    steps = dream(recipe, prior=prior)
    save_state([next(steps) for _ in range(3)][-1].state, tmp_path / "state", recipe)
    *_, resumed = dream(load_recipe(tmp_path / "state"), prior=prior, state=load_state(tmp_path / "state"))
    same(resumed.state, whole.state)


def test_a_snapshot_is_not_moved_by_the_steps_that_follow(prior, tmp_path) -> None:
    steps = dream(RECIPE, prior=prior)
    first = next(steps).state
    kept = snapshot(first)
    before = {name: generator.get_state() for name, generator in kept.generators.items()}
    next(steps)
    moved = [name for name, value in before.items() if not torch.equal(value, first.generators[name].get_state())]
    assert {"cameras", "noise", "timesteps"} <= set(moved)
    assert all(torch.equal(value, kept.generators[name].get_state()) for name, value in before.items())


def test_tensors_that_share_memory_are_saved_all_the_same(state, tmp_path) -> None:
    shared = torch.zeros(4)
    save_state(replace(state, rule={"a": shared, "b": shared[:2], "c": shared.expand(3, 4)}), tmp_path / "s", RECIPE)
    rule = load_state(tmp_path / "s").rule
    assert rule is not None
    assert {name: tuple(value.shape) for name, value in rule.items()} == {"a": (4,), "b": (2,), "c": (3, 4)}


@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.999])
def test_a_file_that_was_cut_short_is_called_so(part, state, tmp_path) -> None:
    path = tmp_path / "state"
    save_state(state, path, RECIPE)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ValueError, match="is no complete state"):
        load_state(path)


def test_every_flipped_bit_of_the_header_and_any_of_the_tensors_is_noticed(state, tmp_path) -> None:
    """But for the blanks that pad the header, which hold nothing."""
    path = tmp_path / "state"
    save_state(state, path, RECIPE)
    content = path.read_bytes()
    head = 8 + int.from_bytes(content[:8], "little")
    padding = len(content[:head]) - len(content[:head].rstrip(b" "))
    draws = torch.randint(8 * (head - padding), (200,), generator=torch.Generator().manual_seed(0))
    places = [*draws.tolist(), *range(8 * head, 8 * len(content), 1999)]
    for place in places:
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"state|damaged|holds"):
            load_state(path)


@pytest.mark.parametrize("content", [b"\x80\x04\x95pickle", b"ply\nformat ascii 1.0\n", os.urandom(200)])
def test_a_file_of_another_kind_is_called_so(content, tmp_path) -> None:
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(ValueError, match="is no complete state"):
        load_state(tmp_path / "state")


def test_weights_of_a_model_are_no_state(tmp_path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "state")
    for load in (load_state, load_recipe):
        with pytest.raises(ValueError, match="no state of a splatdream run"):
            load(tmp_path / "state")


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no state at"):
        load_state(tmp_path / "nothing")


def edited(path: Path, **changes) -> None:
    """The state with another header."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        kept = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        header = json.loads(file.metadata()["splatdream"])
    text = json.dumps(header | changes)
    save_file(kept, path, metadata={"splatdream": text, "sha256": checksum(text, kept)})


def test_a_state_of_another_version_is_refused_by_name(state, tmp_path) -> None:
    save_state(state, tmp_path / "state", RECIPE)
    edited(tmp_path / "state", format="splatdream state 99")
    with pytest.raises(ValueError, match="splatdream state 99"):
        load_state(tmp_path / "state")


def test_a_recipe_with_a_key_of_another_version_is_refused_by_name(state, tmp_path) -> None:
    save_state(state, tmp_path / "state", RECIPE)
    edited(tmp_path / "state", recipe={"prompt": "a ball", "stepz": 3})
    with pytest.raises(ValueError, match="did you mean 'steps'"):
        load_recipe(tmp_path / "state")


def test_a_state_that_lacks_a_part_is_refused(state, tmp_path) -> None:
    save_state(state, tmp_path / "state", RECIPE)
    edited(tmp_path / "state", generators={"cameras": "cpu", "dice": "cpu"})
    with pytest.raises(ValueError, match="lacks a part of the state: 'dice'"):
        load_state(tmp_path / "state")


def test_saving_replaces_a_state_or_leaves_it(state, tmp_path, monkeypatch) -> None:
    path = tmp_path / "state"
    save_state(state, path, RECIPE)
    before = path.read_bytes()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_state(replace(state, step=99), path, RECIPE)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]
