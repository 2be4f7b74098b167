"""Words of a concept on a page: looked up, shown, edited."""

from __future__ import annotations

from typing import NamedTuple

from ..concept import Concept
from ..knowledge import Knowledge
from ..knowledge.guard import told
from ..models import DiffusionModel
from ..testbeds.scenes import find_testbed
from ..testbeds.word_sources import words_of as found_words
from . import typed


class Words(NamedTuple):
    """Words of a concept, for people to read and edit.

    Attributes:
        concept: with its kind where it is known.
        words: that an eraser would be given.
        note: where they come from.
    """

    concept: Concept
    words: Knowledge
    note: str


class Given(NamedTuple):
    """Words for an eraser, None where it looks them up itself, and which typed ones are left out."""

    words: Knowledge | None
    note: str = ""


def look_up(model: DiffusionModel, concept: Concept) -> Words:
    """Words of a concept: of the model's own testbed, else of WordNet.

    Raises:
        InputError: nobody knows the concept.
    """
    if model.testbed is not None:
        testbed = find_testbed(model)
        resolved = testbed.resolve(concept)
        found = testbed.words(resolved)
        return Words(resolved, found, found.source)
    words = found_words(model, concept)
    return Words(concept, Knowledge.of(words.words), f"{words.note}. {told(words.dropped)}".strip(" ."))


def as_typed(words: tuple[str, ...]) -> tuple[str, ...]:
    """Words as a text box gives them back that nobody has edited."""
    return typed.words_of("\n".join(words), "words")


def edited(
    model: DiffusionModel,
    concept: Concept,
    known: Knowledge | None,
    related: tuple[str, ...],
    protected: tuple[str, ...],
) -> Given:
    """The words as a page has them; None where the library looks them up as they are.

    Args:
        model: it may bring words of its own.
        concept: what is erased.
        known: its words as the page has looked them up.
        related: the words to erase, as they stand on the page.
        protected: the words to protect, as they stand there.

    Raises:
        InputError: nothing is left to protect.
    """
    if not related and not protected:
        return Given(None)
    own = model.testbed is not None and find_testbed(model).knows(concept.name)
    if known is None and own:
        known = look_up(model, concept).words
    if known is not None and (related, protected) == (as_typed(known.related), as_typed(known.unrelated)):
        return Given(None if own else known)
    given = known or Knowledge(source="typed", related=(), unrelated=(), replacements=protected[:12])
    changed = given.model_copy(
        update={"source": "edited in the app", "related": related, "unrelated": protected}
    )
    # as the library does; what it leaves out is told on the page
    clean, dropped = changed.guarded(concept.name)
    clean.resolved(concept.name)  # refuses lists that protect nothing
    return Given(clean, told(dropped))
