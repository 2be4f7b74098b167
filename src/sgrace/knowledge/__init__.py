"""Words of a concept's space: related words, unrelated words, and replacements of the concept."""

from .target import Target, apart
from .words import Knowledge

__all__ = ["Knowledge", "Target", "apart"]
