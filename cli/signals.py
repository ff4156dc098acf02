"""Ctrl-C and its relatives: the first one breaks off the step at hand, later ones wait for what is being saved."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # the last two where the platform has them


class Stop:
    """Which signal came, if one did."""

    signum: int | None = None

    def handle(self, signum: int, frame: object) -> None:
        if self.signum is None:
            self.signum = signum
            raise KeyboardInterrupt

    def check(self) -> None:
        """KeyboardInterrupt if a signal came: Python swallows the first one when it arrives inside a destructor."""
        if self.signum is not None:
            raise KeyboardInterrupt

    @property
    def exit_code(self) -> int:
        return 128 + (self.signum or signal.SIGINT)

    @property
    def name(self) -> str:
        return "Ctrl-C" if self.signum in (None, signal.SIGINT) else signal.Signals(self.signum).name


def end_in_order() -> None:
    """Lets a signal that would end the process at once end it as an error does: what was half written is taken away."""

    def end(signum: int, frame: object) -> None:
        raise SystemExit(128 + signum)

    for signum in (getattr(signal, name) for name in NAMES[1:] if hasattr(signal, name)):
        if signal.getsignal(signum) is signal.SIG_DFL:
            signal.signal(signum, end)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Within the block a signal raises KeyboardInterrupt, once. One that the parent process ignores stays ignored."""
    stop, before = Stop(), {}
    if threading.current_thread() is threading.main_thread():
        for signum in (getattr(signal, name) for name in NAMES if hasattr(signal, name)):
            if signal.getsignal(signum) is not signal.SIG_IGN:
                before[signum] = signal.signal(signum, stop.handle)
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
