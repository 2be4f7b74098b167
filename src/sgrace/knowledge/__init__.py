"""Words of a concept's space: related words, unrelated words, and replacements of the concept."""

from .target import Target
from .words import Knowledge

__all__ = ["Knowledge", "Target"]
