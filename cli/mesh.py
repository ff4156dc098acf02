"""`splatdream mesh`: a splat becomes a closed, textured mesh. The splat is only read, whatever happens."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from splatdream import runs
from splatdream.catalog import CATALOG, choose, find
from splatdream.manifest import manifest_beside, speaks_of
from splatdream.recipe import Recipe
from splatdream_cli.console import Refused, refusing, size, stdout, teaching
from splatdream_cli.export import Force, Source, Up
from splatdream_cli.look import DropInvalid, InUp, asset_in, check_axes, check_source
from splatdream_cli.plan import check_prior_and_parts, check_target

if TYPE_CHECKING:
    from splatdream.mesh.making import Refinement

LIGHTS = ("auto", "builtin", "estimated")
EXTRA = ("scipy", "skimage", "manifold3d", "fast_simplification", "xatlas")


@teaching
def mesh(
    source: Source,
    target: Annotated[Path, typer.Argument(metavar="OUT", help=f"One of {', '.join(CATALOG['mesh'])}.")],
    faces: Annotated[int, typer.Option(min=100, help="Triangles at most.")] = 10_000,
    texture: Annotated[int, typer.Option(min=64, max=8192, help="Texels along a side of the texture.")] = 1024,
    resolution: Annotated[int, typer.Option(min=16, max=512, help="Grid points along the longest side.")] = 128,
    albedo: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(LIGHTS),
            help="Take the light out of the colours: that of the built-in prior, or one estimated from them.",
        ),
    ] = None,
    refine: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Steps in which the prior refines the colours; 8 are enough. It mends only what it made.",
        ),
    ] = 0,
    shape: Annotated[
        bool, typer.Option("--shape", help="Let --refine move the surface too, by as many steps.")
    ] = False,
    prompt: Annotated[
        str | None, typer.Option(help="What IN shows, for --refine.", show_default="what its run says")
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(metavar="auto|builtin|builtin-mv|FOLDER", help="Who refines.", show_default="what its run says"),
    ] = None,
    up: Up = None,
    in_up: InUp = None,
    drop_invalid: DropInvalid = False,
    force: Force = False,
) -> None:
    """Make a watertight mesh with UVs, texture and normal map of a splat."""
    check_source(source)
    with refusing():
        suffix = choose("mesh suffix", target.suffix.lower(), list(CATALOG["mesh"]))
        if albedo is not None:
            choose("albedo", albedo, list(LIGHTS))
        check_axes(up, in_up)
        if not refine and (shape or prompt is not None or prior is not None):
            raise Refused("--shape, --prompt and --prior say how to refine; give --refine 8 with them")
        need_extra()
        if target.exists() and target.samefile(source):
            raise Refused(f"{target} is the splat itself, which stays as it is; give the mesh another name")
        for path in (target, *find_companions(target)):
            check_target(path, force)
        made = recipe_of(source)
        recipe = refinement(made, refine, prompt, prior, shape=shape) if refine else None
    from splatdream.mesh.making import Options
    from splatdream.mesh.making import mesh as make
    from splatdream.render.cpu import render

    light = {None: "baked", "auto": "builtin" if by_builtin(made) else "estimated"}.get(albedo, albedo)
    asset = asset_in(source, in_up, drop_invalid)
    options = Options(faces=faces, texture=texture, resolution=resolution, light=str(light))
    follow = following(recipe) if recipe else None
    model = make(asset.splats, render, options, antialiased=asset.antialiased, refinement=follow)
    find("mesh", suffix)(model, target, **({"up": up} if up else {}))
    out = stdout()
    bodies = model.surface.bodies()
    shaped = f"{len(model.surface.faces):,} faces, closed, {bodies} {'body' if bodies == 1 else 'bodies'}"
    out.print(f"{target}: {shaped}, {size(target.stat().st_size)} ({CATALOG['mesh'][suffix].summary})")
    if light != "baked":
        out.print(f"colours without light: {'that of the built-in prior' if light == 'builtin' else 'as estimated'}")


def need_extra() -> None:
    """Refused, with the command to give, where a package for meshes is missing."""
    from importlib.util import find_spec

    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise Refused(f"meshes need {', '.join(missing)}; pip install 'splatdream[mesh]'")


def find_companions(target: Path) -> list[Path]:
    """The files that are written beside the target."""
    from splatdream.mesh.obj import companions

    return companions(target) if target.suffix.lower() == ".obj" else []


def recipe_of(source: Path) -> Recipe | None:
    """The recipe by which the file was made, where the run beside it describes these very bytes."""
    manifest = manifest_beside(source)
    if manifest is None or not speaks_of(manifest, source):
        return None
    return Recipe.from_toml(runs.run_folder(source) / runs.RECIPE)


def by_builtin(recipe: Recipe | None) -> bool:
    from splatdream.priors.models import Wanted
    from splatdream.priors.words import builtin_folder

    return recipe is not None and Wanted.parse(recipe.prior).name in ("builtin", str(builtin_folder()))


def refinement(made: Recipe | None, steps: int, prompt: str | None, prior: str | None, *, shape: bool) -> Recipe:
    """The recipe of the refinement; Refused where nothing says what the splat shows."""
    from splatdream.mesh.refinement import refinement_recipe

    if made is None and prompt is None:
        raise Refused("--refine must know what the splat shows: no run beside it says so; give --prompt 'a red mug'")
    recipe = made.replace(prompt=prompt or made.prompt) if made else Recipe(prompt or "")
    recipe = recipe.replace(prior=prior or recipe.prior, device="cpu", renderer="cpu")
    recipe, _ = check_prior_and_parts(recipe)
    return refinement_recipe(recipe, steps, shape=shape)


def following(recipe: Recipe) -> "Refinement":
    """The refinement with a line for every tenth of its steps."""
    from functools import partial

    from splatdream.mesh.refinement import refined

    def watch(done: int, total: int) -> None:
        if done % max(1, total // 10) == 0:
            stdout().print(f"refining {done}/{total}")

    return partial(refined, recipe=recipe, watch=watch)
