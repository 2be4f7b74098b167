"""PEZ (Wen et al., arXiv 2302.03668): hard prompts for a text feature, by gradients at the nearest tokens."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field

from ._token_space import Layout, nearest_tokens, ordinary_tokens
from .base import Attack
from .session import Session


class PEZConfig(BaseModel):
    """Published values.

    Attributes:
        n_tokens: length of the prompt that is written.
        iterations: gradient steps.
        lr, weight_decay: of AdamW.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_tokens: int = Field(16, ge=1, le=75)
    iterations: int = Field(3000, ge=1, le=1_000_000)
    lr: float = Field(0.1, gt=0)
    weight_decay: float = Field(0.1, ge=0)


class PEZ(Attack[PEZConfig]):
    """Free embeddings, read as their nearest tokens; the gradient at the tokens moves the free embeddings.

    The goal is the pooled feature of the prompt by the original text encoder, which also judges the candidates: the erased model takes no
    part in the search, only in the final check of one picture per prompt.
    """

    name, access, paper, by_text = "pez", "prompt", "arXiv 2302.03668", True
    config_type = PEZConfig
    presets: ClassVar = {"quick": {"n_tokens": 8, "iterations": 100}, "standard": {"n_tokens": 8, "iterations": 400}}

    def search(self, session: Session) -> None:
        """All open prompts at once."""
        config, model = self.config, session.original(self.name)
        rows = session.open
        pool = ordinary_tokens(model)
        table = model.embed(pool)
        unit = F.normalize(table, dim=-1)
        layout = Layout.alone(model, len(rows), config.n_tokens).unpadded()
        everyone = torch.arange(len(rows))
        session.charge(text_encoder_rows=len(rows))
        with torch.no_grad():
            wanted = model.tokenize([session.attempts[i].prompt for i in rows])
            goal = model.project(model.encode(wanted.ids)[everyone, wanted.end])
        free = table[torch.randint(len(pool), (len(rows), config.n_tokens), generator=session.generator)].clone()
        optimizer = torch.optim.AdamW([free], lr=config.lr, weight_decay=config.weight_decay)
        best = nearest_tokens(free, unit)
        best_cosine = torch.full((len(rows),), -1.0)
        for _ in range(config.iterations):
            session.charge(text_encoder_rows=len(rows), backward=True)
            picks = nearest_tokens(free, unit)
            chosen = table[picks].requires_grad_(True)
            states = model.encode(layout.tokens.ids, layout.embedded(model, chosen))
            cosine = F.cosine_similarity(model.project(states[everyone, layout.tokens.end]), goal)
            (free.grad,) = torch.autograd.grad(-cosine.sum(), chosen)
            optimizer.step()
            better = cosine.detach() > best_cosine
            best, best_cosine = torch.where(better[:, None], picks, best), torch.maximum(cosine.detach(), best_cosine)
        session.check_texts(rows, layout.contents(pool[best]))
