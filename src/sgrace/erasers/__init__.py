"""Erasers: one file per method."""

from .base import Eraser, Erasure
from .sgrace import SGrace
from .sgrace_config import SGraceConfig

__all__ = ["Eraser", "Erasure", "SGrace", "SGraceConfig"]
