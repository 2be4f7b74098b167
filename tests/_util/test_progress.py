from __future__ import annotations

import threading

import pytest

from sgrace._util.progress import Step, checkpoint, progress, watched


def test_a_watcher_sees_every_step_and_every_call() -> None:
    seen: list[Step | None] = []
    with watched(seen.append):
        for _ in progress(["a", "b"], "erase", disable=True):
            checkpoint()
    assert seen == [Step("erase", 0, 2), None, Step("erase", 1, 2), None, Step("erase", 2, 2)]


def test_nobody_is_told_outside_of_the_block_and_in_other_threads() -> None:
    seen: list[Step | None] = []
    with watched(seen.append):
        other = threading.Thread(target=checkpoint)
        other.start()
        other.join()
    checkpoint()
    assert list(progress(range(3), "images", disable=True)) == [0, 1, 2]
    assert seen == []


def test_what_the_watcher_raises_ends_the_work() -> None:
    def stop(step: Step | None) -> None:
        if step is not None and step.done == 1:
            raise TimeoutError

    steps = progress(iter(range(5)), "erase", disable=True)
    with watched(stop):
        assert next(steps) == 0
        with pytest.raises(TimeoutError):
            next(steps)
