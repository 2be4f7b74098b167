"""MMA-Diffusion, text part (Yang et al., arXiv 2311.17516): the prompt's meaning without its words."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from .._util.device import randint
from .._util.settings import Settings
from ..models import Conditioning, DiffusionModel
from ..models.needs import Need
from ._token_space import Layout, gradient, text_features
from .base import Attack
from .session import Session


class MMAConfig(Settings):
    """Published values."""

    n_tokens: int = Field(20, ge=1, le=75, description="Length of the prompt that is written.")
    iterations: int = Field(1000, ge=1, le=100_000, description="Rounds of the greedy coordinate search.")
    candidates: int = Field(512, ge=1, le=100_000, description="One-token changes that are tried in a round.")
    top_k: int = Field(
        256, ge=1, description="Tokens of each position, by gradient, from which the changes are drawn."
    )
    restarts: int = Field(
        10, ge=1, le=1000, description="Prompts that are written for each target until one succeeds."
    )
    ban: bool = Field(
        True,
        description="Words of the concept are left out, as they must be where a filter reads the prompt.",
    )


class MMA(Attack[MMAConfig]):
    """Greedy coordinate gradient on the cosine of pooled text features, by the original text encoder.

    The erased model takes no part in the search, only in the final check: one image of each found prompt.
    """

    name = "mma_text"
    access = "prompt"
    paper = "arXiv 2311.17516"
    by_text = True
    needs = frozenset({Need.GRADIENTS})
    config_type = MMAConfig
    presets: ClassVar = {
        "quick": {
            "n_tokens": 8,
            "iterations": 10,
            "candidates": 64,
            "top_k": 32,
            "restarts": 2,
            "ban": False,
        },
        "standard": {
            "n_tokens": 8,
            "iterations": 15,
            "candidates": 64,
            "top_k": 32,
            "restarts": 6,
            "ban": False,
        },
    }

    def search(self, session: Session) -> None:
        """One open prompt after the other."""
        model = session.original(self.name)
        pool = model.text.main.ordinary_tokens()
        allowed = permitted(session, model, pool) if self.config.ban else pool
        table = model.text.main.embed(allowed)

        def search_one(index: int) -> list[int]:
            found: list[int] = self._search_one(
                session, model, allowed, table, session.attempts[index].prompt
            ).tolist()
            return found

        for indices in session.rounds(self.config.restarts):
            session.search_texts(indices, search_one)

    def _search_one(
        self,
        session: Session,
        model: DiffusionModel,
        allowed: Int[Tensor, " m"],
        table: Float[Tensor, "m width"],
        prompt: str,
    ) -> Int[Tensor, " k"]:
        """Content tokens for one prompt."""
        config = self.config
        n = config.candidates
        # without padding: most of a row would be encoded for nothing
        layout = Layout.alone(model, 1, config.n_tokens).unpadded(model)
        k = layout.counts[0]
        # a row for each change that is tried: (n, length)
        many = layout[[0] * n]
        session.charge(text_encoder_rows=1)
        goal = text_features(model, model.text.main.tokenize([prompt]))

        def losses(_part: slice, cond: Conditioning) -> Tensor:
            return -F.cosine_similarity(model.text_features(cond), goal)

        # indices into `allowed`, as everything below
        current = randint(len(allowed), (k,), session.generator, model.device)
        best = current
        best_cosine = -1.0
        for _ in range(config.iterations):
            session.charge(text_encoder_rows=1, backward=True)
            found = gradient(model, layout.filled(allowed[current]), table[current], losses)
            # first-order estimate of the gain of every token at every position: (k, width) @ (width, m)
            gains = -found.values @ table.T
            trial = changed(current, gains, n, config.top_k, session.generator)
            session.charge(text_encoder_rows=n)
            cosines = F.cosine_similarity(text_features(model, many.filled(allowed[trial]).tokens), goal)
            # the best change is taken even if it is worse than before, so that the search leaves local optima
            current = trial[cosines.argmax()]
            if cosines.max().item() > best_cosine:
                best = current
                best_cosine = cosines.max().item()
        return allowed[best]


def changed(
    tokens: Int[Tensor, " k"], gains: Float[Tensor, "k m"], n: int, top_k: int, generator: torch.Generator
) -> Int[Tensor, "n k"]:
    """``n`` copies of tokens, each with one of them replaced by one of the ``top_k`` of most gain there."""
    promising = gains.topk(min(top_k, gains.shape[1]), dim=1).indices  # (k, top_k)
    everyone = torch.arange(n, device=tokens.device)
    # positions in turn: each has about as many of the n changes
    position = everyone % len(tokens)
    pick = randint(promising.shape[1], (n,), generator, tokens.device)
    trial = tokens.repeat(n, 1)  # (k,) -> (n, k)
    trial[everyone, position] = promising[position, pick]
    return trial


def permitted(session: Session, model: DiffusionModel, pool: Int[Tensor, " n"]) -> Int[Tensor, " m"]:
    """Tokens that are no part of a word of the concept and have none in them."""
    banned = {session.scene.concept.name, *session.scene.words.related}
    texts = [model.text.main.decode([i]).strip() for i in pool.tolist()]
    # two letters or less are part of nearly every word: they are not banned
    allowed = [not any((len(text) > 2 and text in word) or word in text for word in banned) for text in texts]
    return pool[torch.tensor(allowed, device=pool.device)]
