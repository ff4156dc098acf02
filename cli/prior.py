"""`splatdream prior`: which models there are, fetching one, and whether one is sound."""

from typing import Annotated

import typer

from splatdream.priors.hub import fetch, offer_of
from splatdream.priors.models import MODELS, cached
from splatdream.priors.words import builtin_folder, choose_prior, default_cache
from splatdream_cli.console import Refused, duration, refusing, shown_command, size, somebody_there, stdout, teaching
from splatdream_cli.plan import hub_cache

prior = typer.Typer(help="Models to ask: list them, fetch one, check one.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME|OWNER/NAME[@REVISION]", help="`splatdream prior list` names some.")]


@prior.command("list")
@teaching
def list_priors() -> None:
    """List the models that have names here, and which of them lie on this machine."""
    out = stdout()
    rows = [("builtin", "the prior that ships with splatdream, of few words", str(builtin_folder()))]
    for name, model in MODELS.items():
        folders = [cached(address, hub_cache() or default_cache(), exactly=False) for address in model.repositories]
        here = next(filter(None, folders), None)
        rows.append((name, model.summary, str(here) if here else f"not here: {' or '.join(model.repositories)}"))
    width = max(len(name) for name, _, _ in rows)
    for name, summary, where in rows:
        out.print(f"{name:<{width}}  {summary}")
        out.print(f"{'':<{width}}  {where}", style="dim")


@prior.command("fetch")
@teaching
def fetch_prior(
    name: Name,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="PART", help="Leave out text_encoder_3 or tokenizer_3 (T5); repeatable."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Fetch a model into the hub's local cache; what an earlier attempt brought is kept."""
    with refusing():
        found = offer_of(name, tuple(without or ()))
    out = stdout()
    out.print(
        f"{found.repository}@{found.revision}: {size(found.size)}, {duration(60 * found.minutes())} at 100 Mbit/s"
    )
    if not yes:
        if not somebody_there():
            again = shown_command("splatdream", "prior", "fetch", name, "--yes")
            raise Refused(f"nobody is there to be asked: {again}")
        typer.confirm("fetch it?", abort=True)
    folder = fetch(found, hub_cache())
    out.print(f"{folder}")
    told = name if name in MODELS else f"{found.repository}@{found.revision}"
    use = ["--init", f"shap-e:model={told}"] if (folder / "shap_e_renderer").is_dir() else ["--prior", told]
    out.print(f"use it: {shown_command('splatdream', 'generate', 'a corgi', '-o', 'corgi.ply', *use)}")


@prior.command("check")
@teaching
def check_prior(
    name: Annotated[str, typer.Argument(metavar="builtin|NAME|FOLDER|OWNER/NAME[@REVISION]", help="Which model.")],
) -> None:
    """Load a model on the CPU and ask it once: every weight is read, and every answer must be finite."""
    with refusing():
        if name == "auto":
            raise Refused("say which model: builtin, a folder, or a name of `splatdream prior list`")
        folder = choose_prior(name, "", cache=hub_cache())
    from splatdream.cameras import orbit
    from splatdream.priors import load_prior
    from splatdream_cli.generate import quieten

    quieten()
    import torch

    model = load_prior(str(folder) + "".join(name.partition(";")[1:]), "", view_words="none")
    views = getattr(model.family, "group", 1)  # pyright: ignore[reportAttributeAccessIssue]
    images = torch.full((views, model.image_size, model.image_size, 3), 0.5)
    latents = model.encode(images)
    condition = model.condition("a red ball", "", orbit(views, model.image_size))
    middle = torch.full((views,), model.schedule.index(0.5))
    answer = model.predict(latents, middle, condition.cond)
    said = {"encoder": latents, "network": answer.value, "decoder": model.decode(latents)}
    for part, values in said.items():
        if not bool(values.isfinite().all()):
            raise ValueError(f"the {part} of {folder} answers with numbers that are not finite")
    out = stdout()
    out.print(f"{folder}")
    rows = {
        "family": type(model.family).__name__,  # pyright: ignore[reportAttributeAccessIssue]
        "pictures": f"{model.image_size} pixels, latents {' x '.join(map(str, latents.shape[1:]))}",
        "answers": f"{answer.kind}, {len(model.schedule)} timesteps",
        "weights": size(sum(path.stat().st_size for path in folder.rglob("*.safetensors"))),
    }
    for title, text in rows.items():
        out.print(f"{title:<9} {text}")
    out.print("sound: every weight and every answer is finite")
