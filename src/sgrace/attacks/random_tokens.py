"""The control of search: random tokens before the prompt."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field

from ._token_space import Layout, ordinary_tokens
from .base import Attack
from .more_seeds import TriesConfig
from .session import Session


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
