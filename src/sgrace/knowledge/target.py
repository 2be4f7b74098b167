"""What an eraser is given: a concept with the words of its space."""

from __future__ import annotations

from dataclasses import dataclass

from ..concept import Concept
from .words import Knowledge


@dataclass(frozen=True)
class Target:
    """One concept to erase.

    Attributes:
        concept: its name and kind.
        words: related words, words to retain, replacements and contexts.
    """

    concept: Concept
    words: Knowledge
