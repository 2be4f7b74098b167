"""What happens in a cell: a model is erased, attacked, drawn from, searched for or scored, into a folder.

Each kind of cell is a file: the digest of its code has what it runs, and nothing else.
"""

from __future__ import annotations

from pathlib import Path

from ...testbeds.loading import LoadOptions
from ..cell import Cell
from . import attack, erasure, images, score, space
from .common import Folders

MAKERS = {
    "erasure": erasure.make,
    "attack": attack.make,
    "images": images.make,
    "space": space.make,
    "score": score.make,
}


def make(cell: Cell, folder_of: Folders, out: Path, options: LoadOptions) -> None:
    """Make a cell.

    Args:
        cell: all cells that it needs are finished.
        folder_of: where they are.
        out: existing folder, which is filled.
        options: how models are loaded; they decide no result beside the precision.

    Raises:
        InputError: the configuration asks for what cannot be done.
    """
    MAKERS[cell.kind](cell, folder_of, out, options)
