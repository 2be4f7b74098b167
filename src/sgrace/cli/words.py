"""Words of concepts for the commands that erase."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..concept import Concept
    from ..knowledge import Knowledge


def words_of_files(files: Sequence[Path], concepts: Sequence[Concept]) -> list[Knowledge] | None:
    """The words in the files, one file for each concept in their order; None where no file is given.

    Raises:
        InputError: a file cannot be read, or it names another concept.
    """
    from ..knowledge import Knowledge  # noqa: PLC0415  (imports pydantic)

    names = [concept.name for concept in concepts][: len(files)]
    found = [Knowledge.from_file(path, name) for path, name in zip_longest(files, names)]
    return found or None
