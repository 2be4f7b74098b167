"""The small study that several tests make."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgrace.study import Cell

from .made import cells, write_study


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def every(file: Path) -> list[Cell]:
    return cells(file)
