"""A concept with its words: what a method erases."""

from __future__ import annotations

from dataclasses import dataclass

from .._util.errors import InputError
from ..concept import Concept
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
