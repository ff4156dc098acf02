"""How the command line speaks: results on stdout, errors on stderr in one sentence, and the exit codes.

0 done, 1 failed, 2 wrong use, 128 + n stopped by signal n (130 for Ctrl-C).
"""

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import NoReturn

import typer
from rich.console import Console
from rich.text import Text

FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130


class Refused(Exception):  # noqa: N818
    """Wrong use, found before anything was done."""


def stdout() -> Console:
    """A console that never reads markup in what users wrote, and leaves the breaking of lines to the terminal."""
    return Console(markup=False, highlight=False, emoji=False, soft_wrap=True)


def stderr() -> Console:
    return Console(markup=False, highlight=False, emoji=False, soft_wrap=True, stderr=True)


def somebody_there() -> bool:
    """Whether a question would be answered."""
    return sys.stdin.isatty()


def fail(message: str, code: int) -> NoReturn:
    stderr().print(Text.assemble(("error: ", "bold red"), message))
    raise typer.Exit(code)


def show_warning(message: Warning | str, category: type[Warning], *where: object) -> None:
    """What the library warns of, in a line; what other libraries tell their own users is left out."""
    if category is UserWarning and not str(message).startswith("["):
        stderr().print(Text.assemble(("warning: ", "bold yellow"), str(message)))


@contextmanager
def refusing() -> Iterator[None]:
    """What the library refuses here is wrong use: the user can put it right."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise Refused(sentence(error)) from error


def sentence(error: BaseException) -> str:
    """An error in one line; the system's own lose their number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}" if error.filename else error.strerror.lower()
    return " ".join(str(error).split()) or type(error).__name__


def teaching(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose errors are told in a sentence and an exit code; SPLATDREAM_DEBUG=1 shows where they came from."""

    @wraps(command)
    def guarded(*args, **kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            fail("interrupted", INTERRUPTED)
        except Exception as error:
            if os.environ.get("SPLATDREAM_DEBUG") == "1":
                raise
            if isinstance(error, Refused):
                fail(str(error), WRONG_USE)
            expected = isinstance(error, (ValueError, OSError, ArithmeticError, RuntimeError, MemoryError))
            kind = "" if expected else f"{type(error).__name__}: "
            hint = "" if expected else " (SPLATDREAM_DEBUG=1 shows where)"
            fail(f"{kind}{sentence(error)}{hint}", FAILED)

    return guarded


def shown_command(*words: object) -> str:
    """A command to copy into a shell."""
    return shlex.join(str(word) for word in words)


def duration(seconds: float) -> str:
    """ "34 s", "4 min 05 s", "2 h 10 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if seconds >= 10 else f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(number: float) -> str:
    """Bytes in decimal units: "812 kB", "1.4 GB"."""
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
