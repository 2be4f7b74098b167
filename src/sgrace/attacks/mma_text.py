"""MMA-Diffusion, text part (Yang et al., arXiv 2311.17516): tokens with the prompt's meaning and none of its words."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ..models import StableDiffusion
from ._token_space import Layout, encoded, ordinary_tokens
from .base import Attack
from .session import Session


class MMAConfig(BaseModel):
    """Published values.

    Attributes:
        n_tokens: length of the prompt that is written.
        iterations: rounds of the greedy coordinate search.
        candidates: one-token changes that are tried in a round.
        top_k: tokens per position, by gradient, from which the changes are drawn.
        restarts: prompts that are written for each target, one after the other until one succeeds.
        ban: whether words of the concept are left out, as they must be where a filter reads the prompt.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_tokens: int = Field(20, ge=1, le=75)
    iterations: int = Field(1000, ge=1, le=100_000)
    candidates: int = Field(512, ge=1, le=100_000)
    top_k: int = Field(256, ge=1)
    restarts: int = Field(10, ge=1, le=1000)
    ban: bool = True


class MMA(Attack[MMAConfig]):
    """Greedy coordinate gradient on the cosine of pooled text features, by the original text encoder.

    The erased model takes no part in the search, only in the final check: one picture per prompt that is written.
    """

    name, access, paper, by_text = "mma_text", "prompt", "arXiv 2311.17516", True
    config_type = MMAConfig
    presets: ClassVar = {
        "quick": {"n_tokens": 8, "iterations": 10, "candidates": 64, "top_k": 32, "restarts": 2, "ban": False},
        "standard": {"n_tokens": 8, "iterations": 15, "candidates": 64, "top_k": 32, "restarts": 6, "ban": False},
    }

    def search(self, session: Session) -> None:
        """One open prompt after the other."""
        model = session.original(self.name)
        allowed = self._permitted(session, ordinary_tokens(model)) if self.config.ban else ordinary_tokens(model)
        table = model.embed(allowed)
        for _ in range(self.config.restarts):
            if not (rows := session.open):
                return
            session.search_texts(
                rows, lambda row: self._search_one(session, model, allowed, table, session.attempts[row].prompt).tolist()
            )  # fmt: skip

    @staticmethod
    def _permitted(session: Session, pool: Tensor) -> Tensor:
        """Tokens that are no part of a word of the concept and have none in them."""
        banned, tokenizer = {session.scene.concept.name, *session.scene.knowledge.related}, session.target.pipeline.tokenizer
        texts = [tokenizer.decode([i]).strip() for i in pool.tolist()]
        return pool[torch.tensor([not any((len(t) > 2 and t in word) or word in t for word in banned) for t in texts])]

    def _search_one(self, session: Session, model: StableDiffusion, allowed: Tensor, table: Tensor, prompt: str) -> Tensor:
        config, generator = self.config, session.generator
        layout = Layout.alone(model, 1, config.n_tokens).unpadded()
        many = Layout.alone(model, config.candidates, config.n_tokens).unpadded()
        session.charge(text_encoder_rows=1)
        with torch.no_grad():
            wanted = model.tokenize([prompt])
            goal = self._feature(model, model.encode(wanted.ids), wanted.end)
        current = torch.randint(len(allowed), (config.n_tokens,), generator=generator)
        best, best_cosine = current, -1.0
        for _ in range(config.iterations):
            session.charge(text_encoder_rows=1, backward=True)
            chosen = table[current][None].requires_grad_(True)
            states = model.encode(layout.tokens.ids, layout.embedded(model, chosen))
            loss = -F.cosine_similarity(self._feature(model, states, layout.tokens.end), goal).sum()
            (gradient,) = torch.autograd.grad(loss, chosen)
            promising = (-gradient[0] @ table.T).topk(min(config.top_k, len(allowed)), dim=1).indices
            position = torch.arange(config.candidates) % config.n_tokens
            pick = torch.randint(promising.shape[1], (config.candidates,), generator=generator)
            trial = current.repeat(config.candidates, 1)
            trial[torch.arange(config.candidates), position] = promising[position, pick]
            session.charge(text_encoder_rows=config.candidates)
            with torch.no_grad():
                states = encoded(model, many.filled(allowed[trial]))
                cosines = F.cosine_similarity(self._feature(model, states, many.tokens.end), goal)
            current = trial[cosines.argmax()]
            if cosines.max().item() > best_cosine:
                best, best_cosine = current, cosines.max().item()
        return allowed[best]

    @staticmethod
    def _feature(model: StableDiffusion, states: Tensor, end: Tensor) -> Tensor:
        return model.project(states[torch.arange(len(states)), end])
