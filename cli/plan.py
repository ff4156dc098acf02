"""What is known before the first step: the recipe, where its result goes, and whether all of it can be done.

Nothing is written here, and the cheap refusals come before torch is loaded.
"""

import os
import shutil
import tempfile
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer

from splatdream import runs
from splatdream.catalog import CATALOG, choose
from splatdream.export import output_suffix
from splatdream.manifest import peak_memory, read_manifest
from splatdream.priors.hub import Offer, Unavailable, fetch, offer, offer_of
from splatdream.priors.models import NotHere, Wanted
from splatdream.priors.words import UnknownWords, builtin_folder, choose_prior
from splatdream.recipe import Recipe, modern, preset
from splatdream_cli.console import Refused, duration, refusing, sentence, shown_command, size, somebody_there, stderr
from splatdream_cli.kernels import prepare_kernels
from splatdream_cli.named import recipe_file

ROW_BYTES = 4 * 62
"""One Gaussian of degree 3 in a PLY."""
SPARE_BYTES = 50_000_000
RENDERER_DEVICES = {"gsplat": "cuda", "cpu": "cpu"}
"""The only kind of device that a renderer works on."""
TRIAL_STEPS = 3
TRIAL_SECONDS = 10.0


@dataclass(frozen=True)
class Plan:
    """A run that can begin: no "auto" is left in the recipe, and `prior` is the folder of its weights."""

    recipe: Recipe
    output: Path
    folder: Path
    prior: Path


def compose(
    prompt: str | None,
    quality: str | None,
    file: Path | None,
    assignments: list[str],
    flags: Mapping[str, Any],
) -> Recipe:
    """The recipe that the command line describes: flags win over --set, --set over the file, the file over --quality.

    Flags that are None were not given; `file` may be the name of a recipe that ships.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    if prompt is not None:
        given["prompt"] = prompt
    with refusing():
        if file is None:
            if prompt is None:
                raise Refused("say what to make, as in: splatdream generate 'a red mug' -o mug.ply")
            recipe = preset(quality or "normal", prompt)
        else:
            recipe = from_file(recipe_file(file), quality, prompt)
        return recipe.set(assignments).replace(**given)


def changed(recipe: Recipe, loras: list[str], words: list[str], encoder: str | None, *, compiled: bool) -> Recipe:
    """The recipe with these changes of its prior, behind those that it names itself (`priors.models.Wanted`)."""
    changes = [f";lora={each}" for each in loras] + [f";words={each}" for each in words]
    changes += [f";encoder={encoder}"] if encoder else []
    changes += [";compile=blocks"] if compiled else []
    return recipe.replace(prior=recipe.prior + "".join(changes))


def from_file(file: Path, quality: str | None, prompt: str | None) -> Recipe:
    """The recipe in a file, over the preset where one was asked for by name."""
    recipe = Recipe.from_toml(file, **({"prompt": prompt} if prompt is not None else {}))
    if quality is None:
        return recipe
    written = modern(tomllib.loads(file.read_text(encoding="utf-8-sig")), file).keys() - {"prompt"}
    return preset(quality, recipe.prompt, **{key: getattr(recipe, key) for key in written})


def repeatable(recipe: Recipe) -> Recipe:
    """The recipe on the CPU, where the same bytes come out again. Refused where it asks for another device."""
    if recipe.device not in ("auto", "cpu"):
        raise Refused(
            f"--deterministic cannot be kept on {recipe.device!r}: gsplat's backward adds with atomics, in no fixed "
            "order, and no other renderer there promises the same bytes; take --device cpu"
        )
    return recipe.replace(device="cpu")


def check(recipe: Recipe, output: Path, *, force: bool) -> Plan:
    """The plan, or Refused with the first thing that stands in its way."""
    with refusing():
        output_suffix(output)
        check_names(recipe)
        folder = runs.run_folder(output)
        check_output(output, folder, force)
        recipe, prior = check_prior_and_parts(recipe)
        recipe = check_first_cloud(recipe)
        check_disk(recipe, output)
    return Plan(recipe, output, folder, prior)


def check_names(recipe: Recipe) -> None:
    """Every part by name alone, from the catalog."""
    parts = {
        "distiller": recipe.distill,
        "timesteps": recipe.timesteps,
        "view_words": recipe.view_words,
        "densifier": recipe.densify,
        "init": recipe.init,
    }
    if recipe.renderer != "auto":
        parts["renderer"] = recipe.renderer
    for kind, spec in parts.items():
        choose(kind, spec.partition(":")[0], list(CATALOG[kind]))


def check_output(output: Path, folder: Path, force: bool) -> None:
    """Whether the result and its run folder can be written."""
    check_target(output, force, hint=resume_hint(folder))
    if folder.exists() and not folder.is_dir():
        raise Refused(f"{folder} is a file, but the run's folder must have this name; choose another output")
    owner = runs.holder(folder)
    if owner:
        raise Refused(f"{folder} is in use by {owner}; wait for it, or choose another output")
    if broken_off(folder) and not force:
        raise Refused(f"{folder} holds a run that was broken off; --force begins anew{resume_hint(folder)}")
    made = result_in(folder)
    if made not in (None, output.name) and (output.parent / made).is_file() and not force:
        raise Refused(f"{folder} tells how {made} was made; choose another name, or --force forgets it")


def result_in(folder: Path) -> str | None:
    """The file that a finished run in the folder has made."""
    try:
        manifest = read_manifest(folder)
    except (ValueError, OSError):
        return None
    return manifest["result"]["file"] if manifest else None


def check_target(path: Path, force: bool, hint: str = "") -> None:
    """Whether a file of this name may be written here."""
    if path.is_dir():
        raise Refused(f"{path} is a folder; give the name of a file")
    if path.exists() and not force:
        raise Refused(f"{path} exists; --force overwrites it{hint}")
    parent = path.parent
    if not parent.is_dir():
        raise Refused(f"the folder {parent} does not exist; make it first")
    try:
        # os.access does not know every reason; making a file does.
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise Refused(f"nothing can be written in {parent}: {(error.strerror or str(error)).lower()}") from error


def broken_off(folder: Path) -> bool:
    """Whether a run in the folder can be resumed."""
    return (folder / runs.RECIPE).is_file() and not runs.finished(folder)


def resume_hint(folder: Path) -> str:
    if not broken_off(folder):
        return ""
    return f", {shown_command('splatdream', 'resume', folder)} goes on with it"


def hub_cache() -> Path | None:
    """Where the environment says that the hub's models lie; None where it says nothing."""
    for name, inner in (("HF_HUB_CACHE", ""), ("HF_HOME", "hub"), ("XDG_CACHE_HOME", "huggingface/hub")):
        if os.environ.get(name):
            return Path(os.environ[name]).expanduser() / inner
    return None


def find_prior(recipe: Recipe) -> Path:
    """The folder of the recipe's prior; a full model of the hub that is needed or named is offered once."""
    name = Wanted.parse(recipe.prior).name
    try:
        return choose_prior(recipe.prior, f"{recipe.prompt} {recipe.negative_prompt}", cache=hub_cache())
    except UnknownWords as unknown:
        found = offer() if name == "auto" else None
        if found is None:
            raise
        stderr().print(sentence(unknown))
        return offered(found, "knows all words", unknown)
    except NotHere as absent:
        try:
            found = offer_of(name)
        except Unavailable as unavailable:
            raise Unavailable(f"{absent}; {unavailable}") from unavailable
        return offered(found, "is not here yet", absent)


def offered(found: Offer, why: str, otherwise: Exception) -> Path:
    """The folder of what was fetched after one yes; `otherwise` is raised without."""
    line = f"{found.repository} {why}: {size(found.size)}, {found.minutes():.0f} min at 100 Mbit/s"
    if not somebody_there():
        fetching = shown_command("splatdream", "prior", "fetch", f"{found.repository}@{found.revision}")
        raise Refused(f"{line}; run this in a terminal to be asked, or `{fetching}`") from None
    if not typer.confirm(f"{line}; fetch it?"):
        raise otherwise
    return fetch(found, hub_cache())


def check_parts(recipe: Recipe) -> Recipe:
    """The recipe with its device and renderer named, after its parts' options have been read. Loads torch."""
    from splatdream.catalog import configured
    from splatdream.loop import pick_device, pick_renderer

    configured("distiller", recipe.distill)
    configured("timesteps", recipe.timesteps)
    configured("view_words", recipe.view_words)
    configured("densifier", recipe.densify)
    try:
        device = pick_device(recipe)
    except RuntimeError as error:
        raise Refused(f"unknown device {recipe.device!r}: try 'auto', 'cpu', 'cuda' or 'cuda:1'") from error
    renderer = pick_renderer(recipe, device)
    needed = RENDERER_DEVICES.get(renderer, device.type)
    if needed != device.type:
        raise Refused(f"the renderer {renderer!r} needs device {needed!r}, not {str(device)!r}; 'dense' takes any")
    if renderer == "gsplat":
        prepare_kernels()
    return recipe.replace(device=str(device), renderer=renderer)


def check_prior_and_parts(recipe: Recipe) -> tuple[Recipe, Path]:
    """The recipe as `check_parts` gives it, and its prior's folder; words of the rule's own are looked up there too."""
    prior = find_prior(recipe)
    recipe = check_parts(recipe)
    from splatdream.catalog import configured
    from splatdream.loop import words_asked

    choose_prior(str(prior), words_asked(recipe, configured("distiller", recipe.distill)))
    wanted = Wanted.parse(recipe.prior)
    wanted.files()
    return recipe.replace(prior=wanted.settled(prior, builtin_folder())), prior


def check_first_cloud(recipe: Recipe) -> Recipe:
    """The recipe with absolute paths, after a look at the files that its first cloud is made of."""
    from splatdream.first_cloud import settled

    return settled(recipe, hub_cache())


def check_disk(recipe: Recipe, output: Path) -> None:
    """Room for the result, a state of three times its size, and its successor."""
    needed = 8 * ROW_BYTES * most_gaussians(recipe) + SPARE_BYTES
    free = shutil.disk_usage(output.parent).free
    if free < needed:
        raise Refused(f"{output.parent} has {size(free)} left, and the run needs up to {size(needed)}")


def most_gaussians(recipe: Recipe) -> int:
    from splatdream.catalog import configured

    return max(recipe.count, getattr(configured("densifier", recipe.densify), "cap", 0))


@dataclass(frozen=True)
class Estimate:
    """From a trial of the first steps; `memory` in bytes, None where the system does not tell."""

    seconds: float
    steps: int
    memory: int | None
    image_size: int


def trial(plan: Plan) -> Estimate:
    """What a step costs here, by doing a few at full size and throwing them away."""
    from splatdream.loop import dream
    from splatdream.priors import load_prior

    recipe = plan.recipe.replace(coarse_until=0.0)
    prior = load_prior(recipe.prior, recipe.prompt, device=recipe.device, view_words=recipe.view_words)
    times, begun = [time.perf_counter()], time.perf_counter()
    for step in dream(recipe, prior=prior):
        times.append(time.perf_counter())
        if step.index + 1 == TRIAL_STEPS or times[-1] - begun > TRIAL_SECONDS:
            break
    # The first step also compiles and allocates, so the fastest is the best guess.
    seconds = min(after - before for before, after in pairwise(times))
    return Estimate(seconds, len(times) - 1, peak_memory(), recipe.size or prior.image_size)


def described(plan: Plan, estimate: Estimate) -> list[tuple[str, str]]:
    """The plan in rows of a name and a text."""
    recipe = plan.recipe
    most = most_gaussians(recipe)
    growth = f", growing to at most {most:,}" if most > recipe.count else ""
    memory = f"about {size(estimate.memory)} at the peak" if estimate.memory else "not known on this system"
    tried = f"{estimate.seconds:.2f} s a step in {estimate.steps} tried here"
    return [
        ("prompt", recipe.prompt),
        *([("negative", recipe.negative_prompt)] if recipe.negative_prompt else []),
        ("output", f"{plan.output} and {plan.folder}{os.sep}"),
        ("prior", str(plan.prior) if recipe.prior != "builtin" else "builtin"),
        ("device", f"{recipe.device}, renderer {recipe.renderer}"),
        ("rule", recipe.distill),
        ("begins", recipe.init),
        ("steps", f"{recipe.steps} of {recipe.views} views at {estimate.image_size} pixels, seed {recipe.seed}"),
        ("Gaussians", f"{recipe.count:,}{growth} ({recipe.densify})"),
        ("memory", memory),
        ("time", f"about {duration(estimate.seconds * recipe.steps)} ({tried})"),
    ]
