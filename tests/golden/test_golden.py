"""Every eraser and attack does what it did when the records were made (``python -m tests.golden``)."""

from __future__ import annotations

import pytest

from .record import NAMES, difference, load, record


@pytest.mark.parametrize("name", NAMES)
def test_nothing_moved(name: str) -> None:
    assert not difference(load()[name], record(name))


def test_every_record_is_of_something() -> None:
    assert set(load()) == set(NAMES)
