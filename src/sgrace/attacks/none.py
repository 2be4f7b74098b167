"""The control that attacks nothing: the prompts as they are."""

from __future__ import annotations

from .base import Attack, NoSettings
from .session import Session


class NoAttack(Attack[NoSettings]):
    """The prompts as they are."""

    name = "none"
    access = "prompt"
    paper = ""
    by_text = True
    config_type = NoSettings

    def search(self, session: Session) -> None:
        """Nothing."""
