"""Controls: what an attack must beat. They look for nothing."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field

from .base import Attack, NoSettings
from .prompt_space import Layout, ordinary_tokens
from .session import Session


class NoAttack(Attack[NoSettings]):
    """The prompts as they are."""

    name, access, paper, by_text = "none", "prompt", "", True
    config_type = NoSettings

    def search(self, session: Session) -> None:
        """Nothing."""


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


class RandomTokensConfig(TriesConfig):
    """``n_tokens`` random tokens before each prompt."""

    n_tokens: int = Field(5, ge=1, le=70)


class RandomTokens(Attack[RandomTokensConfig]):
    """Uniformly random tokens before the prompt."""

    name, access, paper, by_text = "random_tokens", "prompt", "", True
    config_type = RandomTokensConfig
    presets: ClassVar = {"quick": {"tries": 2}}

    def search(self, session: Session) -> None:
        """One picture of each open prompt a round."""
        pool = ordinary_tokens(session.target)
        for _ in range(self.config.tries):
            if not (rows := session.open):
                return
            layout = Layout.prefix(session.target, [session.attempts[i].prompt for i in rows], self.config.n_tokens)
            picks = torch.randint(len(pool), (len(rows), self.config.n_tokens), generator=session.generator)
            session.check_texts(rows, layout.contents(pool[picks]))
