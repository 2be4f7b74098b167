"""Studies: a comparison as a file, planned, run piece by piece, and read again as tables."""

from __future__ import annotations

from .cell import Cell
from .cells import cells_of
from .schema import Matrix, Study, read_study
from .store import Store

__all__ = ["Cell", "Matrix", "Store", "Study", "cells_of", "read_study"]
