"""`splatdream generate`: a prompt becomes a file of Gaussians."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from splatdream.recipe import Recipe
from splatdream_cli.cache import cache_folder
from splatdream_cli.console import refusing, stdout, teaching
from splatdream_cli.follow import Preview, Watch, check_live, follow
from splatdream_cli.named import beginning
from splatdream_cli.plan import Plan, changed, check, compose, described, repeatable, trial
from splatdream_cli.several import generate_several, plans_of, refuse_together

if TYPE_CHECKING:
    from splatdream.contracts import Prior


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
    seeds: Annotated[
        int, typer.Option(metavar="N", min=1, help="So many seeds at once, from --seed on: NAME-SEED.ply each.")
    ] = 1,
    steps: Annotated[int | None, typer.Option(metavar="N", help="Optimisation steps.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the result, and forget a broken-off run.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell the plan, memory and expected time, and write nothing.")
    ] = False,
    preview_every: Preview = 0,
    live: Watch = False,
    checkpoint_every: Annotated[
        int, typer.Option("--checkpoint-every", metavar="N", min=1, help="Save the state every N steps.")
    ] = 25,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Refuse what cannot promise the same bytes again.")
    ] = False,
    prior: Annotated[
        str | None,
        typer.Option(
            metavar="auto|builtin|builtin-mv|NAME|FOLDER|OWNER/NAME[@REVISION]",
            help="The diffusion model; `splatdream prior list` names some.",
            rich_help_panel="Recipe",
        ),
    ] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE[:SCALE]", help="A LoRA for the model; repeatable.", rich_help_panel="Recipe"),
    ] = None,
    new_words: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE[:WORD]", help="A textual inversion for the model; repeatable.", rich_help_panel="Recipe"
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="A tiny autoencoder (TAESD) for the model's.", rich_help_panel="Recipe"),
    ] = None,
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="Let torch compile the model: long runs on a GPU.", rich_help_panel="Recipe"),
    ] = False,
    distill: Annotated[
        str | None,
        typer.Option(metavar="NAME[:field=value,...]", help="The distillation rule.", rich_help_panel="Recipe"),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:field=value,...]|FILE",
            help="What to begin with: a ball, Shap-E's guess, or a mesh, point cloud or splat.",
            rich_help_panel="Recipe",
        ),
    ] = None,
    vram: Annotated[
        float | None,
        typer.Option(metavar="GB", help="The most memory that the model shall take on its device; few views at once."),
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
        typer.Option(
            metavar="NAME|FILE",
            help="One that `splatdream list recipe` names, or a file such as NAME.run/recipe.toml.",
            rich_help_panel="Recipe",
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any key of the recipe; repeatable.", rich_help_panel="Recipe"),
    ] = None,
) -> None:
    """Make a splat from a prompt. Flags win over --set, --set over --recipe, and --recipe over --quality."""
    with refusing():
        begins = None if init is None else beginning(init)
    flags = {
        "init": begins,
        "negative_prompt": negative,
        "seed": seed,
        "steps": steps,
        "prior": prior,
        "distill": distill,
        "device": device,
        "renderer": renderer,
    }
    quieten()
    check_live(live)
    wanted = compose(prompt, quality, recipe, assignments or [], flags)
    wanted = changed(wanted, lora or [], new_words or [], encoder, compiled=compiled)
    wanted = repeatable(wanted) if deterministic else wanted
    if seeds > 1:
        refuse_together(live=live, preview_every=preview_every, dry_run=dry_run)
        plans = plans_of(wanted, output, seeds, force=force)
        generate_several(plans, prior_of(plans[0].recipe, vram), checkpoint_every, cache_folder())
        return
    plan = check(wanted, output, force=force)
    model = None if vram is None else prior_of(plan.recipe, vram)
    if dry_run:
        with refusing():
            tell(plan)
        return
    from splatdream import session

    say = stdout().print
    work = session.start(
        plan.recipe, plan.output, prior=model, checkpoint_every=checkpoint_every, say=say, cache=cache_folder()
    )
    follow(work, plan.recipe, plan.output, preview_every, live=live)


def prior_of(recipe: Recipe, gigabytes: float | None) -> "Prior":
    """The recipe's prior, with a plan for so much memory, which is told, where a number is given."""
    from splatdream.priors.budget import keep_within
    from splatdream.session import loaded

    prior = loaded(recipe, cache_folder())
    if gigabytes is not None:
        with refusing():
            stdout().print(keep_within(prior, gigabytes))
    return prior


def quieten() -> None:
    """diffusers and transformers draw bars and log advice, and errors that we tell ourselves; set before they load."""
    for name, value in (
        ("DIFFUSERS_VERBOSITY", "critical"),
        ("TRANSFORMERS_VERBOSITY", "critical"),
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
