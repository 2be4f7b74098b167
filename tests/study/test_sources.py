"""The study of word sources that ships: what its files hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgrace.knowledge import Knowledge, read_words
from sgrace.knowledge.spelling import holds
from sgrace.testbeds.emoji.concepts import knowledge, resolve

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "studies" / "words").glob("*/*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_words_hold_nothing_that_the_evaluation_withholds(file: Path) -> None:
    words = read_words(file)
    asked = resolve(file.stem)
    withheld = (*asked.withheld_neighbours, *asked.withheld_unrelated, *asked.held_out)
    for word in (*words.related, *words.protected, *words.candidates):
        assert not any(holds(word, one) for one in withheld), word
    own = knowledge(file.stem)
    found = Knowledge.of(words).resolved(file.stem)
    assert (found.contexts, found.unrelated_contexts) == (own.contexts, own.unrelated_contexts)
    if file.parent.name == "random":
        assert not set(words.related[1:]) & set(own.related)
        assert len(words.related) == len(own.related)
        assert abs(len(words.protected) - len(own.unrelated)) <= 1
