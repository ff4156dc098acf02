"""`splatdream generate` and `splatdream resume`: a prompt becomes a file of Gaussians."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from splatdream import runs
from splatdream.export import write
from splatdream_cli.console import Refused, duration, refusing, shown_command, stdout, teaching
from splatdream_cli.plan import Plan, check, check_parts, compose, described, trial
from splatdream_cli.progress import Display, display
from splatdream_cli.signals import Stop, stoppable

if TYPE_CHECKING:
    from splatdream.contracts import Prior, Renderer
    from splatdream.loop import State, Step

SAVE_SECONDS = 60.0
"""A run that dies without a word loses no more than this."""
PREVIEW_VIEWS = 4

Preview = Annotated[
    int, typer.Option("--preview-every", metavar="N", min=0, help="Write NAME.preview.png every N steps; 0 for never.")
]


@teaching
def generate(
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The result, NAME.ply; `splatdream list exporter` names the formats."
        ),
    ],
    prompt: Annotated[str | None, typer.Argument(help="What to make, as in 'a snowman with a red hat'.")] = None,
    quality: Annotated[
        str | None,
        typer.Option(metavar="draft|normal|high", help="One dial for the whole recipe.", show_default="normal"),
    ] = None,
    negative: Annotated[str | None, typer.Option(metavar="TEXT", help="What the pictures must not show.")] = None,
    seed: Annotated[int | None, typer.Option(help="Where chance begins: the same seed, the same result.")] = None,
    steps: Annotated[int | None, typer.Option(metavar="N", help="Optimisation steps.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the result, and forget a broken-off run.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell the plan, memory and expected time, and write nothing.")
    ] = False,
    preview_every: Preview = 0,
    prior: Annotated[
        str | None, typer.Option(metavar="auto|builtin|FOLDER", help="The diffusion model.", rich_help_panel="Recipe")
    ] = None,
    distill: Annotated[
        str | None,
        typer.Option(metavar="NAME[:field=value,...]", help="The distillation rule.", rich_help_panel="Recipe"),
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="auto|cpu|cuda", help="Where tensors live.", rich_help_panel="Recipe")
    ] = None,
    renderer: Annotated[
        str | None,
        typer.Option(metavar="auto|cpu|gsplat|dense", help="What draws the Gaussians.", rich_help_panel="Recipe"),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A recipe in TOML, such as NAME.run/recipe.toml.", rich_help_panel="Recipe"),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any key of the recipe; repeatable.", rich_help_panel="Recipe"),
    ] = None,
) -> None:
    """Make a splat from a prompt. Flags win over --set, --set over --recipe, and --recipe over --quality."""
    flags = {
        "negative_prompt": negative,
        "seed": seed,
        "steps": steps,
        "prior": prior,
        "distill": distill,
        "device": device,
        "renderer": renderer,
    }
    quieten()
    plan = check(compose(prompt, quality, recipe, assignments or [], flags), output, force=force)
    if dry_run:
        tell(plan)
    else:
        Session(plan, preview_every).run()


@teaching
def resume(
    folder: Annotated[Path, typer.Argument(metavar="NAME.run", help="The folder of a run that was broken off.")],
    preview_every: Preview = 0,
) -> None:
    """Go on with a run as if it had never stopped."""
    from splatdream.priors.words import choose_prior

    quieten()
    with refusing():
        path = folder / runs.STATE
        if not path.is_file():
            raise Refused(nothing_to_resume(folder))
        begun = runs.events(folder, "begin")
        if not begun:
            raise Refused(f"{folder / runs.LOG} does not say which file the run was to write")
        from splatdream.checkpoint import load_recipe

        recipe = check_parts(load_recipe(path))
        prior = choose_prior(recipe.prior, recipe.prompt)
    plan = Plan(recipe, folder.parent / begun[-1]["output"], folder, prior)
    Session(plan, preview_every).run(path)


def nothing_to_resume(folder: Path) -> str:
    if not folder.is_dir():
        return f"there is no run folder {folder}"
    if (folder / runs.MANIFEST).is_file():
        return f"{folder} is finished: there is nothing left to do"
    return f"{folder} has no {runs.STATE}: it was broken off before its first state was saved, so generate anew"


def quieten() -> None:
    """diffusers and transformers draw bars and log advice of their own; set before they are loaded."""
    for name, value in (
        ("DIFFUSERS_VERBOSITY", "error"),
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ("TQDM_DISABLE", "1"),
    ):
        os.environ.setdefault(name, value)


def tell(plan: Plan) -> None:
    """The plan, tried for a few steps."""
    out = stdout()
    out.print(f"trying a few steps of {plan.recipe.prompt!r}; nothing is written")
    for name, text in described(plan, trial(plan)):
        out.print(f"{name:<10} {text}")


class Session:
    """One sitting of a run: from its beginning or a saved state to its end or the first signal."""

    def __init__(self, plan: Plan, preview_every: int) -> None:
        self.plan, self.preview_every = plan, preview_every
        self.out = stdout()
        self.reached: State | None = None
        self.saved = time.perf_counter()

    def run(self, state: Path | None = None) -> None:
        """Works to the end, or keeps what there is and exits with 128 + the signal's number."""
        with stoppable() as stop, runs.locked(self.plan.folder):
            try:
                self.work(stop, state)
            except KeyboardInterrupt:
                self.leave(stop)
                raise typer.Exit(stop.exit_code) from None
            except Exception as error:
                self.give_up(error)
                raise

    def work(self, stop: Stop, path: Path | None) -> None:
        plan, recipe = self.plan, self.plan.recipe
        begun = time.perf_counter()
        if path is None:
            runs.begin(plan.folder, recipe)
            runs.log(plan.folder, "begin", output=plan.output.name)
        from splatdream.catalog import find
        from splatdream.checkpoint import load_state, snapshot
        from splatdream.loop import dream
        from splatdream.priors import load_prior

        if path is not None:
            self.reached = load_state(path, device=recipe.device)
            runs.log(plan.folder, "resume", step=self.reached.step)
        done = self.reached.step if self.reached else 0
        # The loop advances the generators it is given; those of the state that is kept must stay.
        state = snapshot(self.reached) if self.reached else None
        with display(self.out, recipe.steps, done) as shown:
            shown.say(f"{recipe.prompt!r}: steps {done + 1} to {recipe.steps}; loading the prior")
            prior = load_prior(str(plan.prior), recipe.prompt, device=recipe.device, view_words=recipe.view_words)
            renderer = find("renderer", recipe.renderer)
            steps = dream(recipe, state=state, prior=prior, renderer=renderer)
            self.follow(steps, stop, shown, prior, renderer)
        self.conclude(time.perf_counter() - begun)

    def follow(self, steps: Iterator["Step"], stop: Stop, shown: Display, prior: "Prior", renderer: "Renderer") -> None:
        """Takes every step, shows and logs it, and keeps a state that the next step cannot change."""
        from splatdream.checkpoint import save_state, snapshot

        before = time.perf_counter()
        for step in steps:
            self.reached = snapshot(step.state)
            now = time.perf_counter()
            self.log(step, now - before)
            shown.step(step, now - before)
            if self.preview_every and (step.index + 1) % self.preview_every == 0:
                self.preview(step, prior, renderer)
            if now - self.saved > SAVE_SECONDS:
                save_state(self.reached, self.plan.folder / runs.STATE, self.plan.recipe)
                self.saved = now
            stop.check()
            before = time.perf_counter()

    def log(self, step: "Step", seconds: float) -> None:
        runs.log(
            self.plan.folder,
            "step",
            step=step.index + 1,
            loss=step.residual,
            grad_norm=step.grad_norm,
            count=step.count,
            seconds=round(seconds, 4),
        )

    def preview(self, step: "Step", prior: "Prior", renderer: "Renderer") -> None:
        from splatdream.turntable import turntable, write_sheet

        pictures = turntable(step.state.splats, renderer, views=PREVIEW_VIEWS, size=prior.image_size)
        write_sheet(pictures, self.plan.output.with_suffix(".preview.png"))

    def export(self, state: "State") -> int:
        """Writes the cloud, and returns its number of Gaussians."""
        write(state.splats, self.plan.output)
        return len(state.splats)

    def conclude(self, seconds: float) -> None:
        plan = self.plan
        if self.reached is None:
            raise RuntimeError("the run ended without a step")
        count = self.export(self.reached)
        runs.log(plan.folder, "end", step=self.reached.step)
        manifest = runs.finish(plan.folder, plan.recipe, plan.output, count, plan.prior)
        pace = manifest["timing"]["seconds_per_step"]
        self.out.print(f"{plan.output}: {count:,} Gaussians in {duration(seconds)} ({pace:.2f} s a step)")
        self.out.print(f"look at it: {shown_command('splatdream', 'render', plan.output)}")

    def leave(self, stop: Stop) -> None:
        """Writes the cloud as it is and the state, and says how to go on."""
        from splatdream.checkpoint import save_state

        plan = self.plan
        if self.reached is None:
            self.out.print(f"stopped by {stop.name} before the first step; {plan.output} was not written")
            return
        save_state(self.reached, plan.folder / runs.STATE, plan.recipe)
        count = self.export(self.reached)
        runs.log(plan.folder, "stop", step=self.reached.step, signal=stop.name)
        self.out.print(f"stopped by {stop.name} after step {self.reached.step} of {plan.recipe.steps}")
        self.out.print(f"{plan.output} holds the splat as it is, {count:,} Gaussians")
        self.out.print(f"to go on: {shown_command('splatdream', 'resume', plan.folder)}")

    def give_up(self, error: Exception) -> None:
        """Keeps the last good state of a run that failed."""
        from splatdream.checkpoint import save_state

        runs.log(self.plan.folder, "error", error=f"{type(error).__name__}: {error}")
        if self.reached is not None:
            save_state(self.reached, self.plan.folder / runs.STATE, self.plan.recipe)
            again = shown_command("splatdream", "resume", self.plan.folder)
            self.out.print(f"the state after step {self.reached.step} is kept; to try again from there: {again}")
