"""Runs that survive: from a recipe or a run's folder to the file that was asked for, whatever happens in between.

    for step in start(recipe, "mug.ply"): ...
    for step in resume("mug.run"): ...

A run that was killed, stopped or broken off at any moment and resumed writes the bytes of one that never stopped, on
the CPU. Its state is saved every `checkpoint_every` steps and the last two such checkpoints are kept; to leave the loop
early, by `break` or Ctrl-C, saves the state and the splat as they are.
"""

import json
import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import torch

from splatdream import first_cloud, runs
from splatdream.cache import embedding
from splatdream.catalog import configured, find
from splatdream.check import check_splats
from splatdream.check.criteria import read_criteria
from splatdream.check.tidy import tidied
from splatdream.checkpoint import OtherVersion, load_recipe, load_state, save_state, snapshot
from splatdream.contracts import Prior
from splatdream.export import write
from splatdream.loop import State, Step, begin, dream, pick_device, pick_renderer, words_asked
from splatdream.manifest import differences, finish, first_cloud_hashes, origin_of
from splatdream.priors import SMALL, builtin_folder, choose_prior, load_prior
from splatdream.priors.models import Wanted
from splatdream.recipe import Recipe
from splatdream.runs import Run

CHECKPOINT_EVERY = 25
SAVE_SECONDS = 60.0
"""A run that dies without a word loses no more than this, however long its steps take."""
GENTLER = 0.5
"""What every learning rate is multiplied by, once, when numbers have ceased to be finite."""

Say = Callable[[str], None]


def start(
    recipe: Recipe,
    output: str | Path,
    *,
    prior: Prior | None = None,
    checkpoint_every: int = CHECKPOINT_EVERY,
    say: Say = lambda text: None,
    cache: Path | None = None,
    portions: int | None = None,
) -> Generator[Step, None, None]:
    """Begins a run in NAME.run and yields its steps; when they are done, the splat and the manifest are written.

    `prior` is for who has loaded the recipe's already; `say` hears, in sentences, what a user should know; `cache` is
    the folder of the cache, if there shall be one; `portions` is how many views the prior takes at once where it was
    not given. Busy where another process has the run's folder; FloatingPointError where numbers are not finite even at
    a gentler pace. What fails before the first step leaves nothing behind.
    """
    if checkpoint_every < 1:
        raise ValueError(f"checkpoint_every must be at least 1; got {checkpoint_every}")
    recipe, weights = settled(recipe)
    folder = runs.run_folder(output)
    with runs.locked(folder):
        origin = origin_of(recipe, weights) | {"portions": portions if prior is None else portions_of(prior)}
        runs.begin(folder, recipe, Path(output).name, checkpoint_every, origin)
        try:
            yield from Session(runs.read(folder), say, cache).steps(prior)
        except FloatingPointError:
            raise  # what led to it is evidence
        except Exception:
            if not runs.events(folder, "step"):
                runs.forget(folder)
            raise


def resume(
    path: str | Path,
    *,
    prior: Prior | None = None,
    say: Say = lambda text: None,
    cache: Path | None = None,
) -> Generator[Step, None, None]:
    """Goes on with the run in a folder, or of an output, as if it had never stopped; no step if it is finished.

    Arguments and errors are those of `start`; ValueError where no run was begun, or its weights are not the same.
    """
    run = runs.read(path)
    with runs.locked(run.folder):
        run = runs.read(path)
        runs.sweep(run)
        if runs.finished(run.folder):
            runs.drop_states(run.folder)
            return
        weights = choose_prior(run.recipe.prior, asked(run.recipe))
        origin = origin_of(run.recipe, weights)
        if origin["prior"]["sha256"] != run.origin["prior"]["sha256"]:
            raise ValueError(f"the weights in {weights} are not those that {run.folder} began with; put them back")
        origin["init"] = run.origin.get("init")  # looked at where it is needed: a checkpoint has the cloud
        origin["machine"]["threads"] = run.origin["machine"]["threads"]  # `Session` sees to it
        origin["portions"] = run.origin.get("portions")  # and to this
        changes = differences(run.origin, origin)
        if changes:
            say(f"the result may differ in its last bits: {'; '.join(changes)}")
        runs.log(run.folder, "resume", changes=changes)
        yield from Session(run, say, cache).steps(prior)


def settled(recipe: Recipe) -> tuple[Recipe, Path]:
    """The recipe without "auto", and the folder of its prior's weights, which need not lie in this folder's.

    OSError or ValueError for files of the first cloud that cannot serve.
    """
    device = pick_device(recipe)
    recipe = first_cloud.settled(recipe)
    weights = choose_prior(recipe.prior, asked(recipe))
    name = Wanted.parse(recipe.prior).settled(weights, builtin_folder())
    return recipe.replace(device=str(device), renderer=pick_renderer(recipe, device), prior=name), weights


def portions_of(prior: Prior) -> int | None:
    """How many views it takes at once, which decides the last bits; None for all."""
    return getattr(getattr(prior, "portions", None), "views", None)


def take_portions(prior: Prior, views: int | None) -> None:
    portions = getattr(prior, "portions", None)
    if portions is not None:
        portions.views = views


def portions_at(run: Run, step: int) -> int | None:
    """How many views at once the run had come down to after a step; None for all."""
    noted = [entry for entry in runs.events(run.folder, "portions") if entry["step"] <= step]
    return noted[-1]["views"] if noted else run.origin.get("portions")


def check_first_cloud(run: Run) -> None:
    """ValueError where the files that the first cloud is made of are no longer those that the run began with."""
    began = (run.origin.get("init") or {}).get("sha256", {})
    if first_cloud_hashes(run.recipe) != began:
        raise ValueError(f"{run.recipe.init} is not what {run.folder} began with; put its files back")


def asked(recipe: Recipe) -> str:
    return words_asked(recipe, configured("distiller", recipe.distill))


def loaded(recipe: Recipe, cache: Path | None = None) -> Prior:
    """The recipe's prior; what large text encoders answer is kept in the cache, under all that decides its bits."""
    weights = choose_prior(recipe.prior, asked(recipe))
    encoders = sorted(weights.glob("text_encoder*/*.safetensors"))
    keep = None
    if cache is not None and sum(path.stat().st_size for path in encoders) >= SMALL:
        origin = origin_of(recipe, weights)
        machine = {name: value for name, value in origin["machine"].items() if name != "renderer"}
        decided_by = [json.dumps([origin["versions"], machine, origin["prior"]["sha256"], recipe.prior])]
        keep = lambda question, compute: embedding(cache, decided_by + question, compute)  # noqa: E731
    return load_prior(recipe.prior, asked(recipe), device=recipe.device, view_words=recipe.view_words, keep=keep)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch at work with so many threads: its sums, unlike those of our own kernels, depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Session:
    """One sitting of a run; `reached` is its state after the last step that was finished."""

    def __init__(self, run: Run, say: Say, cache: Path | None) -> None:
        self.run, self.say, self.cache = run, say, cache
        self.reached: State | None = None
        self.portions: int | None = None
        self.saved = time.perf_counter()

    def steps(self, prior: Prior | None) -> Iterator[Step]:
        """Yields what is left; leaves the result, or all that is needed to go on."""
        try:
            with threads(self.run.origin["machine"]["threads"]):
                yield from self.follow(prior)
                if self.reached is not None:
                    self.conclude(self.reached)
        except (KeyboardInterrupt, GeneratorExit):
            self.leave()
            raise
        except Exception as error:
            with suppress(OSError):  # the disk may be what failed
                runs.log(self.run.folder, "error", error=f"{type(error).__name__}: {error}")
                self.save()
            raise

    def conclude(self, state: State) -> None:
        """Writes the tidied splat first, so that nothing which follows can lose it, and the manifest with its check."""
        splats = tidied(state.splats, read_criteria("splats"))
        write(splats, self.run.output)
        runs.log(self.run.folder, "end", step=state.step, tidied=len(state.splats) - len(splats))
        finish(self.run, len(splats), check_splats(splats).table())

    def follow(self, prior: Prior | None) -> Iterator[Step]:
        recipe = self.run.recipe
        prior = prior or loaded(recipe, self.cache)
        rule, growth = configured("distiller", recipe.distill), configured("densifier", recipe.densify)
        self.reached = self.checkpoint()
        if self.reached is None:
            check_first_cloud(self.run)
            self.reached = begin(recipe, prior, rule, growth, None, torch.device(recipe.device))
            self.save()
        self.portions = portions_at(self.run, self.reached.step)
        take_portions(prior, self.portions)
        if runs.events(self.run.folder, "portions"):  # those of later steps are of a sitting whose end was lost
            runs.log(self.run.folder, "portions", step=self.reached.step, views=self.portions)
        draw = find("renderer", recipe.renderer)
        while self.reached.step < recipe.steps:
            # The loop advances the generators that it is given; those of the state that is kept must stay.
            steps = dream(
                recipe, state=snapshot(self.reached), prior=prior, renderer=draw, distiller=rule, densifier=growth
            )
            try:
                yield from self.taken(steps, prior)
            except FloatingPointError as error:
                self.reached = self.rolled_back(error)

    def taken(self, steps: Iterator[Step], prior: Prior) -> Iterator[Step]:
        """The steps, each logged, and its state kept where the next one cannot change it."""
        before = time.perf_counter()
        for step in steps:
            self.reached, now = snapshot(step.state), time.perf_counter()
            values = {"loss": step.residual, "grad_norm": step.grad_norm, "count": step.count}
            runs.log(self.run.folder, "step", step=step.index + 1, **values, seconds=round(now - before, 4))
            self.note_portions(step.index + 1, portions_of(prior))
            if self.regular(self.reached.step) or now - self.saved > SAVE_SECONDS:
                self.save()
            yield step
            before = time.perf_counter()

    def note_portions(self, step: int, views: int | None) -> None:
        """Keeps what a want of memory changed: the sums of fewer views at once may differ in their last bits."""
        if views != self.portions:
            before = "all" if self.portions is None else self.portions
            change = f"memory ran out in step {step}: {before} views at once, then {views}"
            runs.log(self.run.folder, "portions", step=step, views=views, change=change)
            self.portions = views

    def regular(self, step: int) -> bool:
        """Whether every sitting saves the state after this step, so that a roll-back never depends on chance."""
        return step % self.run.checkpoint_every == 0

    def checkpoint(self) -> State | None:
        """The last saved state that is whole, or None. `OtherVersion` for one that only its own version can read."""
        found = runs.states(self.run.folder)
        for step, path in found.items():
            state = self.opened(step, path)
            if state is None:
                continue
            if load_recipe(path) != self.run.recipe:
                changed = self.run.folder / runs.RECIPE
                raise ValueError(f"{changed} is not the recipe of {path.name}: put it back, or begin anew with it")
            return state
        if found:
            self.say("no state is whole: beginning again from the recipe")
        return None

    def opened(self, step: int, path: Path) -> State | None:
        """A saved state, or None where it is damaged: then it is laid aside, for who wants to look at it."""
        try:
            return load_state(path, device=self.run.recipe.device)
        except OtherVersion:
            raise
        except ValueError as error:
            before = any(number < step for number in runs.states(self.run.folder))
            self.say(f"{error}; the one before is used" if before else str(error))
            runs.log(self.run.folder, "damaged", step=step)
            os.replace(path, path.with_suffix(".damaged"))
            return None

    def save(self) -> None:
        """Saves the state that was reached. OSError that names the checkpoint which is left when that fails."""
        if self.reached is None:
            return
        folder, step = self.run.folder, self.reached.step
        try:
            save_state(self.reached, runs.state_path(folder, step), self.run.recipe)
        except OSError as error:
            whole = max((number for number in runs.states(folder) if number <= step), default=None)
            left = f"the one after step {whole} is whole" if whole is not None else "there is none before it"
            reason = (error.strerror or str(error)).lower()
            raise OSError(f"cannot save the state after step {step}: {reason}; {left}") from error
        self.saved = time.perf_counter()
        self.prune(step)

    def prune(self, step: int) -> None:
        """Keeps, of the states up to a step, the last two regular ones and the last; later ones are no more true."""
        found = runs.states(self.run.folder)
        past = [number for number in found if number <= step]
        kept = {*past[:1], *[number for number in past if self.regular(number)][:2]}
        for number in found.keys() - kept:
            found[number].unlink(missing_ok=True)

    def rolled_back(self, error: FloatingPointError) -> State:
        """The last regular checkpoint at a gentler pace, once; the second time the error, with what led to it saved."""
        if self.reached is None or self.reached.pace < 1.0:
            raise FloatingPointError(f"{error}, even at {GENTLER} of the learning rates") from error
        step = self.reached.step
        found = runs.states(self.run.folder)
        regular = [number for number in found if number <= step and self.regular(number)]
        whole = ((number, self.opened(number, found[number])) for number in regular)
        back, state = next(((number, state) for number, state in whole if state is not None), (0, None))
        if state is None:
            raise FloatingPointError(f"{error}, and no state is left to go back to") from error
        self.prune(back)
        self.reached = replace(state, pace=GENTLER)
        self.save()
        runs.log(self.run.folder, "roll back", error=str(error), to=back)
        self.say(f"{error}: going on from step {back} with {GENTLER} of the learning rates")
        return self.reached

    def leave(self) -> None:
        """Saves the state and writes the splat as it is, unless the result stands already."""
        if runs.finished(self.run.folder):
            return
        done = self.reached.step if self.reached else 0
        if self.reached is not None and done:
            self.save()
            write(self.reached.splats, self.run.output)
        count = len(self.reached.splats) if self.reached else 0
        runs.log(self.run.folder, "stop", step=done, count=count)
