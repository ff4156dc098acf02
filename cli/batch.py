"""`splatdream batch`: a file of prompts becomes a folder of splats, on one machine or many."""

import os
import time
from collections.abc import Generator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from splatdream.batch.claims import Claims, Hopeless
from splatdream.batch.page import write_pages
from splatdream.batch.prompts import READERS, Job, as_planned, read_jobs, read_plan, write_plan
from splatdream.batch.results import Outcome, archive, outcomes, write_results
from splatdream.catalog import choose
from splatdream.locks import alone
from splatdream_cli.cache import cache_folder
from splatdream_cli.console import FAILED, Refused, duration, refusing, sentence, stdout, teaching
from splatdream_cli.generate import quieten
from splatdream_cli.plan import check_first_cloud, check_names, check_parts, compose
from splatdream_cli.signals import stoppable

if TYPE_CHECKING:
    from splatdream.recipe import Recipe

ENGINES = ("local", "ray")
WORKER_CORES = 4
"""Without GPUs a worker has at least so many cores; more workers at fewer threads each would share one memory bus."""
SHOW_SECONDS, PAGES_SECONDS = 1.0, 60.0
SHOW_SHARE = 20.0
"""Of a hundred thousand jobs even the counting takes a while; so many times that goes by before the next."""
QUIET_SECONDS = 15.0
SHOWN_FAILURES = 20
TOLD = ("OMP_WAIT_POLICY", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE")
"""What of this process's environment holds for workers on other machines too."""
Crew = Generator[list[str], None, None]


@teaching
def batch(
    prompts: Annotated[Path, typer.Argument(metavar="PROMPTS", help=f"A file of prompts: {', '.join(READERS)}.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Where it all goes; may be shared by machines.")
    ],
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Seeds for each prompt; the best one is kept.")] = 1,
    engine: Annotated[str, typer.Option(metavar="local|ray", help="Who runs the workers.")] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", show_default="one a GPU, or one for four cores")
    ] = None,
    address: Annotated[
        str, typer.Option(metavar="auto|local|HOST:PORT", help="The Ray cluster to join.", rich_help_panel="Ray")
    ] = "auto",
    gpus: Annotated[
        float | None, typer.Option(min=0.0, help="GPUs of a worker.", show_default="1 for CUDA", rich_help_panel="Ray")
    ] = None,
    cpus: Annotated[float, typer.Option(min=0.1, help="Cores of a worker.", rich_help_panel="Ray")] = 1.0,
    retries: Annotated[
        int, typer.Option(min=0, metavar="N", help="How often a prompt goes on elsewhere when its worker dies.")
    ] = 2,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try again what failed.")] = False,
    quality: Annotated[
        str | None,
        typer.Option(metavar="draft|normal|high", show_default="normal", rich_help_panel="Recipe of every prompt"),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            metavar="NAME|FILE", help="A recipe by its name, or in TOML.", rich_help_panel="Recipe of every prompt"
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Any key of the recipe.", rich_help_panel="Recipe of every prompt"
        ),
    ] = None,
) -> None:
    """Make splats from many prompts. What is finished is skipped, so a batch may be stopped and begun again.

    A prompt's own keys win over --set. Run it on several machines with one DIR, and they share the work.
    """
    quieten()
    base = compose("each", quality, recipe, assignments or [], {})
    with refusing():
        choose("engine", engine, list(ENGINES))
        jobs = read_jobs(prompts, base, seeds)
        device = checked(jobs)
        prepare(out)
    claims = Claims(out, retries=retries)
    asked = enqueue(out, claims, jobs, retry_failed)
    begun = time.perf_counter()
    with stoppable() as stop:
        try:
            if not claims.over():
                crew = (
                    local(out, claims, workers, device)
                    if engine == "local"
                    else on_cluster(
                        out, claims, workers, address, cpus, float(device == "cuda") if gpus is None else gpus
                    )
                )
                follow(crew, out, claims, stop.check)
        except KeyboardInterrupt:
            conclude(out, claims)
            stdout().print(f"stopped by {stop.name}; the same command goes on with it")
            raise typer.Exit(stop.exit_code) from None
        except Hopeless:
            tell(of(asked, outcomes(read_plan(out), claims)), out, time.perf_counter() - begun)
            raise
    found = of(asked, conclude(out, claims))
    tell(found, out, time.perf_counter() - begun)
    stdout().print(f"look at them: {out / 'index.html'}")
    if any(outcome.state != "done" for outcome in found):
        raise typer.Exit(FAILED)


def of(asked: set[str], found: list[Outcome]) -> list[Outcome]:
    """What became of the jobs of this file; the pages show all that the folder has seen."""
    return [outcome for outcome in found if outcome.job.name in asked]


def checked(jobs: list[Job]) -> str:
    """The kind of device they are for. ValueError for parts that there are not, in the first job that names them."""
    known: dict[tuple, Recipe] = {}
    for job in jobs:
        it = job.recipe
        parts = (it.device, it.renderer, it.distill, it.timesteps, it.view_words, it.densify, it.init)
        if parts not in known:
            try:
                check_names(it)
                known[parts] = check_parts(check_first_cloud(it))
            except (ValueError, OSError) as error:
                raise Refused(f"{it.prompt!r}: {sentence(error)}") from error
    return next(iter(known.values())).device.partition(":")[0]


def prepare(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise Refused(f"{out} is a file; give a folder")
    out.mkdir(parents=True, exist_ok=True)


def enqueue(out: Path, claims: Claims, jobs: list[Job], retry_failed: bool) -> set[str]:
    """Adds to the plan what is new, says what there is to do, and returns the names of this file's jobs."""
    with alone(claims.folder / "plan.lock"):
        plan = read_plan(out)
        wanted = {job.name: job for job in as_planned(jobs, plan)}
        if not wanted.keys() <= plan.keys():
            write_plan(out, plan | wanted)
        again = claims.retry(wanted) if retry_failed else 0
        mended = claims.mend()
        lost = claims.retry([name for name, job in wanted.items() if not job.place(out).is_file()], "done")
        claims.add(list(wanted))
        withdrawn = claims.withdraw(plan.keys() - wanted.keys())
    done, failed = (len(claims.jobs(state) & wanted.keys()) for state in ("done", "failed"))
    said = [f"{done:,} are done"] * bool(done) + [f"{failed:,} failed before; --retry-failed tries them again"] * bool(
        failed
    )
    said += [f"{again:,} are tried again"] * bool(again)
    said += [f"what was filed of {mended:,} is damaged and looked up again"] * bool(mended)
    said += [f"the splats of {lost:,} are gone and made again"] * bool(lost)
    said += [f"{withdrawn:,} of other files are left for another time"] * bool(withdrawn)
    stdout().print(f"{len(wanted):,} jobs in {out}" + (f": {', '.join(said)}" if said else ""))
    return set(wanted)


def local(out: Path, claims: Claims, workers: int | None, device: str) -> Crew:
    from splatdream.batch.local import run_local
    from splatdream.render._threads import available_cores

    cores = available_cores()
    cards = visible_cards() if device == "cuda" else []
    count = workers or len(cards) or max(1, cores // WORKER_CORES)
    return run_local(out, claims, environments(count, cores, cards, os.environ), cache_folder())


def visible_cards() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def environments(count: int, cores: int, cards: list[str], environment: Mapping[str, str]) -> list[dict[str, str]]:
    """For every worker its threads, which together are the machine's, and its card in turn."""
    threads = {"OMP_NUM_THREADS": str(max(1, cores // count))}
    places = [{"CUDA_VISIBLE_DEVICES": cards[number % len(cards)]} if cards else {} for number in range(count)]
    return [threads | dict(environment) | place for place in places]


def on_cluster(out: Path, claims: Claims, workers: int | None, address: str, cpus: float, gpus: float) -> Crew:
    from splatdream.batch.cluster import join, places, run_ray

    try:
        ray = join(None if address == "local" else address)
    except (ImportError, ConnectionError) as error:
        raise Refused(str(error)) from error
    count = workers or places(ray, cpus, gpus)
    told = {name: os.environ[name] for name in TOLD if name in os.environ}
    return run_ray(ray, out.absolute(), claims, count, cpus=cpus, gpus=gpus, cache=cache_folder(), environment=told)


def follow(crew: Crew, out: Path, claims: Claims, check: Any) -> None:
    """Shows the batch's progress to its end, in its pages too, and stops the crew when the loop is left."""
    console = stdout()
    show = bars if console.is_terminal and not console.is_dumb_terminal else lines
    with closing(crew), closing(show(claims)) as shown:
        tell_now, write_now = seldom(SHOW_SECONDS), seldom(PAGES_SECONDS)
        next(write_now)
        for _ in crew:
            check()
            if next(tell_now):
                next(shown)
            if next(write_now):
                with suppress(OSError):  # told at the end, when it lasts
                    conclude(out, claims)


def seldom(seconds: float) -> Generator[bool, None, None]:
    """Whether it is time again: once in so many seconds, and far less often than what follows takes."""
    due = 0.0
    while True:
        begun = time.monotonic()
        yield begun > due
        if begun > due:
            due = begun + max(seconds, SHOW_SHARE * (time.monotonic() - begun))


def counted(claims: Claims) -> tuple[int, int, int]:
    """Done, failed, and all."""
    numbers = {state: len(claims.jobs(state)) for state in ("todo", "taken", "done", "failed")}
    return numbers["done"], numbers["failed"], sum(numbers.values())


def at_work(status: dict[str, Any]) -> str:
    if not status.get("job"):
        return "waits"
    return f"{status['job']}  {status['step']}/{status['steps']}" if status.get("steps") else f"{status['job']}  begins"


def lines(claims: Claims) -> Generator[None, None, None]:
    """A line now and then."""
    out, spoke, shown = stdout(), time.monotonic(), (0, 0, 0)
    while True:
        now = counted(claims)
        if time.monotonic() - spoke > QUIET_SECONDS or (now[0] + now[1]) // 10 > (shown[0] + shown[1]) // 10:
            workers = "; ".join(f"{name} {at_work(status)}" for name, status in claims.workers().items())
            out.print(f"{now[0]:,} of {now[2]:,} done, {now[1]:,} failed  {workers}")
            spoke, shown = time.monotonic(), now
        yield


def bars(claims: Claims) -> Generator[None, None, None]:
    """A bar for the whole and one for each worker."""
    columns = (BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
    with Progress(*columns, TextColumn("{task.description}", markup=False), console=stdout(), transient=True) as bar:
        whole = bar.add_task("", total=None)
        tasks: dict[str, TaskID] = {}
        while True:
            done, failed, total = counted(claims)
            bar.update(whole, completed=done + failed, total=total, description=f"jobs, {failed} failed")
            workers = claims.workers()
            for name in tasks.keys() - workers.keys():
                bar.remove_task(tasks.pop(name))
            for name, status in workers.items():
                if name not in tasks:
                    tasks[name] = bar.add_task(name, total=None)
                steps = status.get("steps") or None
                text = f"{name} {at_work(status)}"
                bar.update(tasks[name], completed=status.get("step", 0), total=steps, description=text)
            yield


def conclude(out: Path, claims: Claims) -> list[Outcome]:
    """Sorts the best from the others, writes the results and the pages, as far as the batch has come, and returns it.

    What was filed is read under the lock, so that of several who conclude at once the last one has seen most.
    """
    with alone(claims.folder / "plan.lock"):
        found = outcomes(read_plan(out), claims)
        archive(found, out)
        write_results(found, out)
        write_pages(found, out)
    return found


def tell(found: list[Outcome], out: Path, seconds: float) -> None:
    """The sum, and which failed and why."""
    say = stdout().print
    failed = [outcome for outcome in found if outcome.state == "failed"]
    width = max((len(outcome.job.name) for outcome in failed), default=0)
    for outcome in failed[:SHOWN_FAILURES]:
        say(f"{outcome.job.name:<{width}}  {outcome.told.get('error', 'failed')}")
    if len(failed) > SHOWN_FAILURES:
        say(f"and {len(failed) - SHOWN_FAILURES:,} more, in {out / 'results.jsonl'}")
    done = sum(outcome.state == "done" for outcome in found)
    say(f"{done:,} of {len(found):,} done, {len(failed):,} failed, in {duration(seconds)}")
    waiting = len(found) - done - len(failed)
    if waiting:
        say(f"{waiting:,} are left to do; the same command goes on with them")
