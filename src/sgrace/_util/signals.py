"""Signals that end a process, turned into an exception so that unfinished files are removed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def exit_on_terminate() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP raise ``SystemExit(128 + number)``, so that ``finally`` blocks run.

    A signal that is handled or ignored already is left alone; outside of the main thread nothing is done.
    """
    named = [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")]  # Windows has no SIGHUP
    ours: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():
        ours = [number for number in named if number and signal.getsignal(number) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _exit)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _exit(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not stop the clean-up
    raise SystemExit(128 + number)
