"""Causes every fault that a run must survive, in real processes, and prints how many it survived and the bytes it lost.

A fault is survived when the run says what it should, exits as it should and, resumed, writes the bytes of a run that
nothing disturbed. Lost bytes are those of the result that differ from that run's.

The processes are forked from one that has loaded torch already, where the system can fork, and their prior is tiny and
knows nothing: what a run survives does not depend on that, and so hundreds of processes are cheap.
"""

import argparse
import ctypes
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import count
from multiprocessing.context import BaseContext
from pathlib import Path

from splatdream import runs
from splatdream.manifest import read_manifest

HERE = Path(__file__).parent
STEPS, EVERY = 12, 3
PROMPT = "a red mug"
SMALL = [
    *("--steps", str(STEPS), "--checkpoint-every", str(EVERY), "--renderer", "dense", "--device", "cpu"),
    *("--set", "views=1", "--set", "count=100", "--set", "inner_steps=2"),
]
VARIANTS = [
    [],
    ["--distill", "sds", "--set", "densify=mcmc:start=0.0,every=0.2"],
    ["--distill", "ism", "--set", "densify=gradient:start=0.0,every=0.3,grow_gradient=1e-9"],
]
"""Recipes whose states differ in what they hold."""
KILLS = 13
"""How often a run is killed before it may end."""
SECONDS = 300
LOADED = [
    "splatdream_cli.main",
    "splatdream.session",
    "splatdream.priors.diffusion",
    "splatdream.render.cpu",
    "plyfile",
]


@dataclass
class Outcome:
    """How often a fault was tried and survived, the bytes it cost, and what went wrong."""

    tried: int = 0
    survived: int = 0
    lost: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, work: Path, name: str, complaints: list[str], times: int = 1) -> None:
        """One run, in which a fault struck so many times."""
        lost = differing(work / f"{name}.ply", work / "whole.ply")
        complaints = [*complaints, *([f"{lost} bytes differ"] if lost else [])]
        self.tried += times
        self.survived += 0 if complaints else times
        self.lost += lost
        self.wrong += [f"{name}: {complaint}" for complaint in complaints]


def differing(path: Path, whole: Path) -> int:
    """Bytes in which the first file differs from the second; all of them where it is missing."""
    one, other = path.read_bytes() if path.is_file() else b"", whole.read_bytes()
    return abs(len(one) - len(other)) + sum(a != b for a, b in zip(one, other, strict=False))


@cache
def processes() -> BaseContext:
    """How processes are started: forked from one that has loaded torch, or anew where the system cannot fork."""
    paths = [str(HERE), str(HERE.parent / "tests"), os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))  # where that one finds `_loaded`
    os.environ["OMP_NUM_THREADS"] = "1"
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["_loaded"])
    return context


class Sitting:
    """A process that runs `splatdream WORDS` in a folder, with a fault already in it."""

    def __init__(self, folder: Path, words: list[str], fault: Callable[[], None] | None = None) -> None:
        self.told = folder / f"told-{time.monotonic_ns()}.txt"
        self.process = processes().Process(target=command, args=(folder, words, self.told, fault))
        self.process.start()

    def end(self) -> tuple[int | None, str]:
        """Its exit code and all that it said."""
        self.process.join(SECONDS)
        told = self.told.read_text(encoding="utf-8", errors="replace") if self.told.is_file() else ""
        return self.process.exitcode, told


def command(folder: Path, words: list[str], told: Path, fault: Callable[[], None] | None) -> None:
    """The process: the command line with its output in a file."""
    os.chdir(folder)
    with told.open("wb", buffering=0) as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if fault is not None:
        fault()
    from splatdream_cli.main import main

    sys.argv = ["splatdream", *words]
    main()


def generated(work: Path, name: str, variant: list[str], fault: Callable[[], None] | None = None) -> Sitting:
    return Sitting(work, ["generate", PROMPT, "-o", f"{name}.ply", "--prior", str(prior()), *SMALL, *variant], fault)


@cache
def prior() -> Path:
    """A folder of random weights, the same every time."""
    sys.path.append(str(HERE.parent / "tests"))
    from tiny import tiny_prior_folder

    return tiny_prior_folder(Path(tempfile.mkdtemp()) / "prior")


def resumed(work: Path, name: str, fault: Callable[[], None] | None = None) -> Sitting:
    return Sitting(work, ["resume", f"{name}.run"], fault)


def expected(end: tuple[int | None, str], code: int, *words: str) -> list[str]:
    """What is wrong with how a process ended."""
    found, told = end[0], end[1].lower()
    wrong = [f"exit code {found}, not {code}: {told[-300:]!r}"] if found != code else []
    wrong += [f"it did not say {word!r}: {told[-300:]!r}" for word in words if word.lower() not in told]
    return wrong + (["it showed a traceback"] if "traceback" in told else [])


def whole(work: Path, variant: list[str]) -> float:
    """Makes whole.ply, which nothing disturbs, and returns the seconds that took."""
    begun = time.monotonic()
    wrong = expected(generated(work, "whole", variant).end(), 0)
    if wrong:
        raise RuntimeError(f"an undisturbed run failed: {wrong}")
    return time.monotonic() - begun


def until(ready: Callable[[], bool], sitting: Sitting) -> None:
    """Waits, while the process lives."""
    while sitting.process.is_alive() and not ready():
        time.sleep(0.001)


def steps_done(work: Path, name: str) -> int:
    return max((entry["step"] for entry in runs.events(work / f"{name}.run", "step")), default=0)


def half_done(work: Path, name: str = "half") -> None:
    """NAME.run, killed in its second half."""
    sitting = generated(work, name, VARIANTS[0])
    until(lambda: steps_done(work, name) >= 2 * EVERY + 1, sitting)
    sitting.process.kill()
    sitting.end()


@dataclass(frozen=True)
class Death:
    """The process kills itself in an open file: when half of it is written, or on either side of its renaming."""

    moment: str
    number: int

    def __call__(self) -> None:
        sync, rename, log, calls = os.fsync, os.replace, runs.log, count(1)

        def die(moment: str) -> None:
            if moment == self.moment and next(calls) == self.number:
                os.kill(os.getpid(), signal.SIGKILL)

        def dying_sync(descriptor: int) -> None:
            if self.moment == "half written" and next(calls) == self.number:
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            sync(descriptor)

        def dying_replace(source: str | Path, target: str | Path) -> None:
            die("before its renaming")
            rename(source, target)
            die("after its renaming")

        def dying_log(folder: Path, event: str, **values: object) -> None:
            if self.moment == "in the log" and next(calls) == self.number:
                with (folder / runs.LOG).open("ab") as file:
                    file.write(b'{"time": "20')
                os.kill(os.getpid(), signal.SIGKILL)
            log(folder, event, **values)

        os.fsync, os.replace, runs.log = dying_sync, dying_replace, dying_log


DEATHS = ("half written", "before its renaming", "after its renaming", "in the log")


def killed(work: Path, kills: int, seed: int = 0, variants: list[list[str]] = VARIANTS) -> Outcome:
    """`kill -9` at random moments over the lives of several runs, every other one in an open file."""
    outcome, chance = Outcome(), random.Random(seed)
    for number in count():
        if outcome.tried >= kills:
            return outcome
        folder = work / f"kill-{number}"
        folder.mkdir()
        variant = variants[number % len(variants)]
        seconds = whole(folder, variant)
        done = 0
        while done < min(KILLS, kills - outcome.tried):
            inside = chance.random() < 0.5
            death = Death(chance.choice(DEATHS), chance.randint(1, 5)) if inside else None
            sitting = started(folder, variant, death)
            if death is None:
                sitting.process.join(chance.uniform(0, seconds))
                sitting.process.kill()
            code, _ = sitting.end()
            if runs.finished(folder / "killed.run"):
                break  # the blow came too late
            done += code == -signal.SIGKILL
        complaints = []
        if not runs.finished(folder / "killed.run"):
            complaints = expected(started(folder, variant).end(), 0)
        left = [path.name for path in (*folder.glob(".*.tmp"), *folder.glob("killed.run/.*.tmp"))]
        outcome.add(folder, "killed", complaints + [f"{name} was left" for name in left], done)
        shutil.rmtree(folder)


def started(folder: Path, variant: list[str], death: Death | None = None) -> Sitting:
    """What a user would do: resume the run or, where none was begun, ask for it."""
    if (folder / "killed.run" / runs.RECIPE).is_file():
        return resumed(folder, "killed", death)
    return generated(folder, "killed", variant, death)


def stopped(work: Path, times: int, signum: int) -> Outcome:
    """A signal that asks the run to stop: the state and the splat are saved."""
    outcome, chance = Outcome(), random.Random(signum)
    whole(work, VARIANTS[0])
    for number in range(times):
        name, after = f"stopped-{number}", chance.randint(1, STEPS - 2)
        sitting = generated(work, name, VARIANTS[0])
        until(lambda name=name, after=after: steps_done(work, name) >= after, sitting)
        os.kill(sitting.process.pid or 0, signum)
        wrong = expected(sitting.end(), 128 + signum, f"{name}.ply holds the splat as it is", "to go on: ")
        outcome.add(work, name, wrong + expected(resumed(work, name).end(), 0))
    return outcome


def full_disk(work: Path, times: int) -> Outcome:
    """The disk fills up in the middle: a clear error, the last checkpoint whole, and on it goes when there is room."""
    outcome = Outcome()
    with small_disk(work / "disk") as disk:
        whole(disk, VARIANTS[0])
        for number in range(times):
            name = f"full-{number}"
            sitting = generated(disk, name, VARIANTS[0])
            until(lambda name=name: EVERY in runs.states(disk / f"{name}.run"), sitting)
            kept = {path: path.read_bytes() for path in runs.states(disk / f"{name}.run").values()}
            fill(disk / "filler")
            wrong = expected(sitting.end(), 1, "no space left on device", f"splatdream resume {name}.run")
            found = [path.read_bytes() for path in kept if path.is_file()]
            wrong += [] if found and found[0] in kept.values() else ["its last checkpoint is gone"]
            (disk / "filler").unlink()
            outcome.add(disk, name, wrong + expected(resumed(disk, name).end(), 0))
    return outcome


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 120 MB. PermissionError for who may not mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=120m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        raise PermissionError("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(path: Path) -> None:
    with suppress(OSError), path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))


def damaged(work: Path, times: int, harm: Callable[[Path, random.Random], None]) -> Outcome:
    """The last checkpoint was harmed: it is noticed and the one before is used."""
    outcome, chance = Outcome(), random.Random(0)
    whole(work, VARIANTS[0])
    half_done(work)
    for number in range(times):
        name = copied(work, f"damaged-{number}")
        harm(next(iter(runs.states(work / f"{name}.run").values())), chance)
        outcome.add(work, name, expected(resumed(work, name).end(), 0, "the one before is used"))
    return outcome


def copied(work: Path, name: str) -> str:
    """half.run under another name."""
    shutil.copytree(work / "half.run", work / f"{name}.run")
    log = work / f"{name}.run" / runs.LOG
    log.write_text(log.read_text().replace("half.ply", f"{name}.ply"))
    return name


def cut(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size))


def flip(path: Path, chance: random.Random) -> None:
    """One bit, in the header or, as often, behind it; not among the blanks that pad the header and hold nothing."""
    content = bytearray(path.read_bytes())
    end = 8 + int.from_bytes(content[:8], "little")
    written = 8 + len(content[8:end].rstrip(b" "))
    place = chance.randrange(written) if chance.random() < 0.5 else chance.randrange(end, len(content))
    content[place] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


@dataclass(frozen=True)
class Poison:
    """The prior answers NaN in one step; at a gentler pace too, if `always`."""

    step: int
    always: bool

    def __call__(self) -> None:
        from splatdream import loop

        turn = loop.turn

        def poisoned(recipe, state, prior, *others):
            if state.step == self.step and (self.always or state.pace == 1.0):
                healthy = prior.predict
                prior.predict = lambda *arguments: spoilt(healthy(*arguments))
                try:
                    return turn(recipe, state, prior, *others)
                finally:
                    prior.predict = healthy
            return turn(recipe, state, prior, *others)

        loop.turn = poisoned


def spoilt(prediction):
    return replace(prediction, value=prediction.value * float("nan"))


def poisoned(work: Path, times: int) -> Outcome:
    """A NaN: back to the checkpoint with smaller steps; the same bytes, be the run killed in between or not."""
    outcome = Outcome()
    for number in range(times):
        poison, name = Poison(EVERY + 1 + number, always=False), f"poisoned-{number}"
        wrong = expected(
            generated(work, "whole", [*VARIANTS[1], "--force"], poison).end(), 0, "is not finite: going on"
        )
        sitting = generated(work, name, VARIANTS[1], poison)
        until(lambda name=name: bool(runs.events(work / f"{name}.run", "roll back")), sitting)
        sitting.process.kill()
        sitting.end()
        outcome.add(work, name, wrong + expected(resumed(work, name, poison).end(), 0))
    return outcome


def poisoned_for_good(work: Path, times: int) -> Outcome:
    """A NaN that smaller steps do not cure: the run gives up, names the part, and keeps the state that led to it."""
    outcome = Outcome()
    for number in range(times):
        always, once = (Poison(EVERY + 1 + number, always) for always in (True, False))
        name = f"hopeless-{number}"
        expected(generated(work, "whole", [*VARIANTS[0], "--force"], once).end(), 0)
        end = generated(work, name, VARIANTS[0], always).end()
        wrong = expected(end, 1, f"step {always.step}: the ", "is not finite, even at")
        wrong += [] if always.step in runs.states(work / f"{name}.run") else ["the state before it was not kept"]
        again = expected(resumed(work, name, always).end(), 1, "is not finite, even at")
        outcome.add(work, name, wrong + again + expected(resumed(work, name).end(), 0))
    return outcome


@dataclass(frozen=True)
class Thirst:
    """From this step on memory runs out wherever the prior takes two views at once."""

    step: int

    def __call__(self) -> None:
        import torch

        from splatdream import loop
        from splatdream.priors.portions import Portions

        turn, spread, now = loop.turn, Portions.spread, [0]

        def counted(recipe, state, *others):
            now[0] = state.step
            return turn(recipe, state, *others)

        def thirsty(self: Portions, function: Callable, rows: slice) -> list:
            if now[0] >= thirst and rows.stop - rows.start > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return spread(self, function, rows)

        thirst = self.step
        loop.turn, Portions.spread = counted, thirsty


def out_of_memory(work: Path, times: int) -> Outcome:
    """Memory runs out in the middle: on with fewer views at once, the same bytes whether killed in between or not."""
    outcome, views = Outcome(), [*VARIANTS[0], "--set", "views=2"]
    for number in range(times):
        thirst, name = Thirst(EVERY + 1 + number), f"thirsty-{number}"
        said = "out of memory with 2 views at once: going on with 1"
        wrong = expected(generated(work, "whole", [*views, "--force"], thirst).end(), 0, said)
        sitting = generated(work, name, views, thirst)
        until(lambda name=name, step=thirst.step: steps_done(work, name) >= step + 2, sitting)
        sitting.process.kill()
        sitting.end()
        again = expected(resumed(work, name, thirst).end(), 0)
        changes = (read_manifest(work / f"{name}.run") or {}).get("changes", [])
        wrong += [] if any("memory ran out in step" in change for change in changes) else ["the manifest is silent"]
        outcome.add(work, name, wrong + again)
    return outcome


def in_use(work: Path, times: int) -> Outcome:
    """A second process wants the folder: refused while the first lives, welcome when that was killed."""
    outcome = Outcome()
    whole(work, VARIANTS[0])
    for number in range(times):
        name = f"busy-{number}"
        first = generated(work, name, VARIANTS[0], Slow())
        until(lambda name=name: steps_done(work, name) >= EVERY + 1, first)
        wrong = expected(resumed(work, name).end(), 2, f"in use by process {first.process.pid}")
        wrong += expected(generated(work, name, ["--force"]).end(), 2, f"in use by process {first.process.pid}")
        wrong += [] if first.process.is_alive() else ["the first process was disturbed"]
        first.process.kill()
        first.end()
        outcome.add(work, name, wrong + expected(resumed(work, name).end(), 0))
    return outcome


class Slow:
    """Every logged step takes as long as a thief needs."""

    def __call__(self) -> None:
        log = runs.log

        def slow(folder: Path, event: str, **values: object) -> None:
            log(folder, event, **values)
            time.sleep(60 if values.get("step") == EVERY + 2 else 0)

        runs.log = slow


class Powerless:
    """Root obeys permissions like others (Linux)."""

    def __call__(self) -> None:
        if os.geteuid() == 0:
            # capset(2): version 3 for this process, and two words each of effective, permitted and inheritable.
            none = (ctypes.c_uint32 * 6)()
            if ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), none):
                raise PermissionError("this process keeps its powers")


def forbidden(work: Path, times: int) -> Outcome:
    """Folders that must not be written: refused at once, or a clear error in the middle and the checkpoint whole."""
    outcome = Outcome()
    whole(work, VARIANTS[0])
    for number in range(times):
        folder, name = work / f"closed-{number}", f"forbidden-{number}"
        folder.mkdir(mode=0o555)
        end = Sitting(
            work, ["generate", PROMPT, "-o", f"{folder.name}/mug.ply", "--prior", str(prior()), *SMALL], Powerless()
        ).end()
        wrong = expected(end, 2, f"nothing can be written in {folder.name}: permission denied")
        sitting = generated(work, name, VARIANTS[0], Powerless())
        until(lambda name=name: EVERY in runs.states(work / f"{name}.run"), sitting)
        (work / f"{name}.run").chmod(0o555)
        wrong += expected(sitting.end(), 1, "cannot save the state after step", "permission denied", "is whole")
        (work / f"{name}.run").chmod(0o755)
        outcome.add(work, name, wrong + expected(resumed(work, name).end(), 0))
    return outcome


def without_weights(work: Path, times: int) -> Outcome:
    """The weights are gone, or are others, when a run is resumed: a clear error, and on it goes when they are back."""
    outcome, weights = Outcome(), prior() / "unet" / "diffusion_pytorch_model.safetensors"
    whole(work, VARIANTS[0])
    for number in range(times):
        name = f"weightless-{number}"
        sitting = generated(work, name, VARIANTS[0])
        until(lambda name=name: steps_done(work, name) >= EVERY, sitting)
        sitting.process.kill()
        sitting.end()
        away = prior().rename(prior().with_name("away"))
        wrong = expected(resumed(work, name).end(), 1, f"'{prior()}' is no prior: the folder does not exist")
        away.rename(prior())
        content = weights.read_bytes()
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        wrong += expected(resumed(work, name).end(), 1, f"are not those that {name}.run began with")
        weights.write_bytes(content)
        outcome.add(work, name, wrong + expected(resumed(work, name).end(), 0))
    return outcome


FAULTS: dict[str, Callable[[Path, int], Outcome]] = {
    "kill -9": killed,
    "Ctrl-C": lambda work, times: stopped(work, times, signal.SIGINT),
    "SIGTERM": lambda work, times: stopped(work, times, signal.SIGTERM),
    "disk full": full_disk,
    "checkpoint cut short": lambda work, times: damaged(work, times, cut),
    "bit flipped in a checkpoint": lambda work, times: damaged(work, times, flip),
    "NaN from the prior": poisoned,
    "NaN for good": poisoned_for_good,
    "out of memory": out_of_memory,
    "folder in use": in_use,
    "folder made read-only": forbidden,
    "weights gone or others": without_weights,
}


def table(outcomes: dict[str, Outcome]) -> str:
    lines = [f"{'fault':<30}{'tried':>8}{'survived':>10}{'':>8}{'bytes lost':>12}"]
    for name, outcome in outcomes.items():
        share = f"{100 * outcome.survived / outcome.tried:.0f} %" if outcome.tried else "-"
        lines.append(f"{name:<30}{outcome.tried:>8}{outcome.survived:>10}{share:>8}{outcome.lost:>12}")
    return "\n".join(lines)


def main() -> None:
    import _report as report

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--times", type=int, default=3, help="of every other fault")
    parser.add_argument("--only", nargs="+", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument("--out", type=Path, default=HERE / "results")
    options = parser.parse_args()
    outcomes, notes = {}, []
    for name in options.only:
        with tempfile.TemporaryDirectory() as work:
            try:
                outcomes[name] = FAULTS[name](Path(work), options.kills if name == "kill -9" else options.times)
                notes += outcomes[name].wrong
            except PermissionError as error:
                notes.append(f"{name}: not tried, since {error}")
        print(table(outcomes), *notes, sep="\n", flush=True)
    text = "\n".join([table(outcomes), *notes])
    data = {name: {"tried": o.tried, "survived": o.survived, "lost": o.lost} for name, o in outcomes.items()}
    report.save("faults", text, {"faults": data, "notes": notes}, options.out)
    if any(outcome.survived < outcome.tried or outcome.lost for outcome in outcomes.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
