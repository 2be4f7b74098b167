"""The control of chance: the prompts as they are, with other initial noise."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field

from .base import Attack
from .session import Session


class TriesConfig(BaseModel):
    """``tries`` pictures per prompt at most."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tries: int = Field(8, ge=1, le=10_000)


class MoreSeeds(Attack[TriesConfig]):
    """The prompts as they are, with other initial noise."""

    name, access, paper, by_text = "more_seeds", "prompt", "", False
    config_type = TriesConfig
    presets: ClassVar = {"quick": {"tries": 2}}

    def search(self, session: Session) -> None:
        """One picture of each open prompt a round."""
        for _ in range(self.config.tries):
            if not (rows := session.open):
                return
            noise = torch.randn((len(rows), *session.noise.shape[1:]), generator=session.generator)
            session.check(rows, session.states[rows], noise=noise)
