"""A concept with its words: what a method erases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .._util.errors import InputError
from ..concept import Concept, folded
from .words import Knowledge


@dataclass(frozen=True)
class Target:
    """A concept and its words.

    Attributes:
        concept: what is erased.
        words: of the concept's space. Related words may be empty: the concept's name is always one.

    Raises:
        InputError: no unrelated word is left beside the concept's own, or there are no prompt patterns.
    """

    concept: Concept
    words: Knowledge

    def __post_init__(self) -> None:
        self.words.resolved(self.concept.name)
        if not self.words.contexts or not self.words.unrelated_contexts:
            raise InputError(
                f"The words of {self.concept.name!r} have no prompt patterns; give at least {{}} alone."
            )


def apart(targets: Sequence[Target]) -> tuple[Target, ...]:
    """The same concepts; none is retained or takes another's place while it is erased itself.

    Words of the other concepts are left out of ``replacements`` and ``unrelated``. If no unrelated word
    were left, all are kept: methods that need some refuse them.
    """
    own = [{folded(word) for word in (target.concept.name, *target.words.related)} for target in targets]
    found = []
    for n, target in enumerate(targets):
        taken = set().union(*own[:n], *own[n + 1 :])
        words = target.words
        unrelated = tuple(word for word in words.unrelated if folded(word) not in taken)
        replacements = tuple(word for word in words.replacements if folded(word) not in taken)
        update = {"unrelated": unrelated or words.unrelated, "replacements": replacements}
        found.append(replace(target, words=words.model_copy(update=update)))
    return tuple(found)
