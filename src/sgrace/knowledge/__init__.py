"""Words of a concept's space: what belongs to it, what must stay, and what may stand in its place."""

from .target import Target
from .words import Knowledge

__all__ = ["Knowledge", "Target"]
