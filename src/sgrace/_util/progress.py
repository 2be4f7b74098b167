"""How far a long piece of work is: a bar in the terminal, and whoever watches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


class Step(NamedTuple):
    """A place in a piece of work.

    Attributes:
        what: the work, as its bar is labelled.
        done: steps behind it.
        total: steps in all; 0 where nobody knows.
    """

    what: str
    done: int
    total: int


#: Is told of each step, and with None of each call of a network between steps. What it raises ends the work.
Watcher = Callable[[Step | None], None]
#: Of the thread that works: others have their own.
_WATCHER: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Within the block, in this thread, a watcher follows the work and may end it by an exception."""
    token = _WATCHER.set(watcher)
    try:
        yield
    finally:
        _WATCHER.reset(token)


def checkpoint() -> None:
    """A call of a network: a place where a watcher may end the work."""
    watcher = _WATCHER.get()
    if watcher is not None:
        watcher(None)


def progress(items: Iterable[Item], desc: str, **options: Any) -> Iterator[Item]:  # noqa: ANN401  (of tqdm)
    """The items under a progress bar, which a watcher sees too.

    Args:
        items: one for each step.
        desc: what is done.
        options: of tqdm.
    """
    # made here and not at the first step, so that the bar is there while that step is prepared
    return _told(tqdm(items, desc=desc, **options), desc, len(items) if isinstance(items, Sized) else 0)


def _told(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    done = 0
    for item in items:
        _tell(Step(what, done, total))
        yield item
        done += 1
    _tell(Step(what, done, total))


def _tell(step: Step) -> None:
    watcher = _WATCHER.get()
    if watcher is not None:
        watcher(step)
