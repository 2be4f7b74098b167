from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from sgrace._util.progress import checkpoint, progress
from sgrace.app.work import Cancelled, Desk, Task


@pytest.fixture
def desk() -> Iterator[Desk]:
    found = Desk()
    yield found
    found.close()


class Gate:
    """Work that goes on until it is let go or ended."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        for _ in progress(range(1000), "erase", disable=True):
            checkpoint()
            if self.go.wait(0.01):
                return "done"
        raise AssertionError("nobody let it go")


def test_one_task_at_a_time_in_their_order(desk: Desk) -> None:
    first, second, third = Gate(), Gate(), Gate()
    tasks = [desk.submit(name, gate) for name, gate in zip("abc", (first, second, third), strict=True)]
    assert first.begun.wait(10)
    assert [desk.ahead(task) for task in tasks] == [0, 1, 2]
    assert [task.state for task in tasks] == ["running", "waiting", "waiting"]
    assert not second.begun.wait(0.05)
    first.go.set()
    assert second.begun.wait(10)
    assert tasks[0].result() == "done"
    assert [desk.ahead(task) for task in tasks[1:]] == [0, 1]
    for gate in (second, third):
        gate.go.set()
    assert tasks[2].wait(10)


def test_a_running_task_ends_at_its_next_step_and_the_next_one_begins(desk: Desk) -> None:
    gate = Gate()
    task = desk.submit("erase", gate)
    after = desk.submit("next", lambda: 3)
    assert gate.begun.wait(10)
    task.cancel()
    with pytest.raises(Cancelled):
        task.result()
    assert task.state == "cancelled"
    assert after.result() == 3


def test_a_waiting_task_that_is_cancelled_never_begins(desk: Desk) -> None:
    gate = Gate()
    running = desk.submit("erase", gate)
    begun: list[int] = []
    waiting = desk.submit("next", lambda: begun.append(1))
    waiting.cancel()
    gate.go.set()
    assert running.result() == "done"
    with pytest.raises(Cancelled):
        waiting.result()
    assert begun == []


def test_progress_is_seen_from_outside(desk: Desk) -> None:
    gate = Gate()
    task = desk.submit("erase", gate)
    assert gate.begun.wait(10)
    while task.calls < 3:
        assert task.active
    assert task.step is not None
    assert (task.step.what, task.step.total) == ("erase", 1000)
    gate.go.set()
    assert task.wait(10)


def test_an_error_reaches_whoever_waits_and_no_other_task(desk: Desk) -> None:
    def fail() -> None:
        raise KeyError("x")

    failed = desk.submit("a", fail)
    with pytest.raises(KeyError):
        failed.result()
    assert failed.state == "failed"
    assert desk.submit("b", lambda: 1).result() == 1


def test_closing_ends_what_runs_and_what_waits() -> None:
    desk = Desk()
    gate = Gate()
    tasks: list[Task] = [desk.submit("a", gate), desk.submit("b", lambda: 1)]
    assert gate.begun.wait(10)
    desk.close()
    assert [task.state for task in tasks] == ["cancelled", "cancelled"]
