"""Words of concepts for the commands that erase."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ..concept import Concept, Kind
    from ..knowledge import Knowledge
    from ..models import DiffusionModel


def words_of_files(files: Sequence[Path], concepts: Sequence[Concept]) -> list[Knowledge] | None:
    """The words in the files, one file for each concept in their order; None where no file is given.

    Raises:
        InputError: a file cannot be read, or it names another concept.
    """
    from ..knowledge import Knowledge  # noqa: PLC0415  (imports pydantic)

    names = [concept.name for concept in concepts][: len(files)]
    found = [Knowledge.from_file(path, name) for path, name in zip_longest(files, names)]
    return found or None


def found_words(
    model: DiffusionModel, concepts: Sequence[Concept], kind: Kind | None, *, silent: bool
) -> list[Knowledge] | None:
    """Words that are found in WordNet; None for a model that brings its own.

    Raises:
        InputError: WordNet is not installed, or does not know a concept.
    """
    from ..knowledge import Knowledge  # noqa: PLC0415  (imports pydantic)
    from ..testbeds.word_sources import words_of  # noqa: PLC0415  (torch takes seconds to import)

    if model.testbed is not None:
        return None
    lists = []
    for concept in concepts:
        found = words_of(model, type(concept).parse(concept, kind))
        lists.append(Knowledge.of(found.words))
        if not silent:
            counts = f"{len(found.words.related)} related, {len(found.words.protected)} protected"
            click.echo(f"Words of {found.words.source}: {found.note}. {counts}.", err=True)
    return lists
