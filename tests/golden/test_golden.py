"""Every eraser and attack does what it did when the records were made (``python -m tests.golden``)."""

from __future__ import annotations

import pytest

from .record import difference, load, names, record


@pytest.mark.parametrize("name", load())
def test_nothing_moved(name: str) -> None:
    assert not difference(load()[name], record(name))


def test_every_record_is_of_something() -> None:
    assert set(load()) == set(names())
