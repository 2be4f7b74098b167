"""Erasers: one file per method."""

from .base import Erasure
from .sgrace import SGrace
from .sgrace_config import SGraceConfig

__all__ = ["Erasure", "SGrace", "SGraceConfig"]
