"""The built-in model's testbed."""

from __future__ import annotations

from pathlib import Path

from ..base import Testbed
from .concepts import path


class EmojiTestbed(Testbed):
    """Words, prompts, questions and judge of the built-in model."""

    name = "emoji"

    @staticmethod
    def path() -> Path:
        """Folder of the built-in pipeline."""
        return path()
