"""One thing at a time: a queue of tasks, the thread that works them off, and a way to end each of them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

from .._util.progress import Step, watched

State = Literal["waiting", "running", "done", "failed", "cancelled"]


class Cancelled(Exception):  # noqa: N818  (no error: somebody asked for it)
    """The work was ended by whoever wanted it."""


class Task:
    """A piece of work in the queue, as the page sees it.

    Attributes:
        what: in words for people.
        state: where it is.
        step: where the work is, if it says so.
        calls: calls of networks so far.
    """

    def __init__(self, what: str, work: Callable[[], Any]) -> None:
        self.what = what
        self.state: State = "waiting"
        self.step: Step | None = None
        self.calls = 0
        self._work = work
        self._result: Any = None
        self._error: BaseException | None = None
        self._cancelled = threading.Event()
        self._ended = threading.Event()
        self._started = 0.0

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return not self._ended.is_set()

    @property
    def seconds(self) -> float:
        """Since it began to run."""
        return time.monotonic() - self._started if self._started else 0.0

    def cancel(self) -> None:
        """Ask it to end; a running one ends at the next call of a network."""
        self._cancelled.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for its end: whether it has come."""
        return self._ended.wait(seconds)

    def result(self) -> Any:  # noqa: ANN401  (of the work)
        """What the work returned, once it has ended.

        Raises:
            Cancelled: it was ended before.
            Exception: the work's own.
        """
        self._ended.wait()
        if self._error is not None:
            raise self._error
        return self._result

    def run(self) -> None:
        """Do the work in this thread."""
        self._started = time.monotonic()
        self.state = "running"
        try:
            self._follow(None)
            with watched(self._follow):
                self._result = self._work()
            self.state = "done"
        except Cancelled as error:
            self._error = error
            self.state = "cancelled"
        except BaseException as error:  # noqa: BLE001  (told to whoever waits for the result)
            self._error = error
            self.state = "failed"
        self._ended.set()

    def _follow(self, step: Step | None) -> None:
        if self._cancelled.is_set():
            raise Cancelled
        if step is None:
            self.calls += 1
        else:
            self.step = step


class Desk:
    """A queue of tasks and the one thread that works."""

    def __init__(self) -> None:
        self._queue: deque[Task] = deque()
        self._changed = threading.Condition()
        self._at_work: Task | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work_off, name="sgrace-app", daemon=True)
        self._thread.start()

    def submit(self, what: str, work: Callable[[], Any]) -> Task:
        """Put a task at the end of the queue."""
        task = Task(what, work)
        with self._changed:
            self._queue.append(task)
            self._changed.notify()
        return task

    def ahead(self, task: Task) -> int:
        """Number of tasks that come before a waiting one."""
        with self._changed:
            before = list(self._queue).index(task) if task in self._queue else 0
            return before + (self._at_work is not None and task in self._queue)

    def close(self) -> None:
        """End the running task and all that wait, and the thread."""
        with self._changed:
            self._closed = True
            for task in (*self._queue, *([] if self._at_work is None else [self._at_work])):
                task.cancel()
            self._changed.notify()
        self._thread.join(timeout=30)

    def _work_off(self) -> None:
        while True:
            with self._changed:
                self._at_work = None
                while not self._queue:
                    if self._closed:
                        return
                    self._changed.wait()
                self._at_work = self._queue.popleft()
            self._at_work.run()
