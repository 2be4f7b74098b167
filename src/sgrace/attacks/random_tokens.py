"""The control of search: random tokens before the prompt."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from .._util.device import randint
from ._token_space import Layout
from .base import Attack
from .more_seeds import TriesConfig
from .session import Session


class RandomTokensConfig(TriesConfig):
    """Settings."""

    n_tokens: int = Field(5, ge=1, le=70, description="Random tokens before each prompt.")


class RandomTokens(Attack[RandomTokensConfig]):
    """Uniformly random tokens before the prompt."""

    name = "random_tokens"
    access = "prompt"
    paper = ""
    by_text = True
    config_type = RandomTokensConfig
    presets: ClassVar = {"quick": {"tries": 2}}

    def search(self, session: Session) -> None:
        """One image of each open prompt a round."""
        model = session.target
        pool = model.text.main.ordinary_tokens()
        layout = Layout.prefix(model, [a.prompt for a in session.attempts], self.config.n_tokens)
        for indices in session.rounds(self.config.tries):
            here = layout[indices]
            # a token for every free position of all open prompts
            picks = randint(len(pool), (sum(here.counts),), session.generator, model.device)
            session.check_texts(indices, here.filled(pool[picks]).contents())
