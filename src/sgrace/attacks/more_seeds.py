"""The control of chance: the prompts as they are, with other initial noise."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from .._util.settings import Settings
from .base import Attack
from .session import Session


class TriesConfig(Settings):
    """Settings of attacks that try at random."""

    tries: int = Field(8, ge=1, le=10_000, description="Images of each prompt, at most.")


class MoreSeeds(Attack[TriesConfig]):
    """The prompts as they are, with other initial noise."""

    name = "more_seeds"
    access = "prompt"
    paper = ""
    by_text = False
    config_type = TriesConfig
    presets: ClassVar = {"quick": {"tries": 2}}

    def search(self, session: Session) -> None:
        """One image of each open prompt a round."""
        for indices in session.rounds(self.config.tries):
            # not the prompts' own seeds, which were tried already
            noise = session.target.noise(len(indices), session.generator)
            session.check(indices, session.cond[indices], noise=noise)
