"""PEZ (Wen et al., arXiv 2302.03668): hard prompts for a text feature, by gradients at the nearest tokens."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from .._util.device import randint
from .._util.settings import Settings
from ..models import Conditioning
from ..models.needs import Need
from ._token_space import Layout, gradient, nearest_tokens, text_features
from .base import Attack
from .session import Session


class PEZConfig(Settings):
    """Published values."""

    n_tokens: int = Field(16, ge=1, le=75, description="Length of the prompt that is written.")
    iterations: int = Field(3000, ge=1, le=1_000_000, description="Gradient steps.")
    lr: float = Field(0.1, gt=0, description="Learning rate of AdamW.")
    weight_decay: float = Field(0.1, ge=0, description="Weight decay of AdamW.")


class PEZ(Attack[PEZConfig]):
    """Free embeddings, read as their nearest tokens; the gradient at the tokens moves the free embeddings.

    The goal is the pooled feature of the prompt by the original text encoder, which also judges the
    candidates: the erased model takes no part in the search, only in the final check of one image a prompt.
    """

    name = "pez"
    access = "prompt"
    paper = "arXiv 2302.03668"
    by_text = True
    needs = frozenset({Need.GRADIENTS})
    config_type = PEZConfig
    presets: ClassVar = {
        "quick": {"n_tokens": 8, "iterations": 100},
        "standard": {"n_tokens": 8, "iterations": 400},
    }

    def search(self, session: Session) -> None:
        """All open prompts at once."""
        config = self.config
        model = session.original(self.name)
        main = model.text.main
        indices = session.open
        pool = main.ordinary_tokens()
        table = main.embed(pool)
        unit = F.normalize(table, dim=-1)
        layout = Layout.alone(model, len(indices), config.n_tokens).unpadded(model)
        session.charge(text_encoder_rows=len(indices))
        # one row a prompt: (n, features)
        goal = text_features(model, main.tokenize([session.attempts[i].prompt for i in indices]))

        def losses(part: slice, cond: Conditioning) -> Tensor:
            return -F.cosine_similarity(model.text_features(cond), goal[part])

        shape = (len(indices), layout.counts[0])
        # start on real tokens: (n, k, width)
        free = table[randint(len(pool), shape, session.generator, model.device)]
        optimizer = torch.optim.AdamW([free], lr=config.lr, weight_decay=config.weight_decay)
        best = nearest_tokens(free, unit)
        best_cosine = torch.full((len(indices),), -1.0, device=model.device)
        for _ in range(config.iterations):
            session.charge(text_encoder_rows=len(indices), backward=True)
            picks = nearest_tokens(free, unit)
            found = gradient(model, layout.filled(pool[picks]), table[picks.flatten()], losses)
            # straight through: the gradient at the tokens moves the free embeddings
            free.grad = found.values.view_as(free)
            optimizer.step()
            cosine = -found.losses
            # (n,): each prompt keeps its own best, which may be any step
            better = cosine > best_cosine
            best = torch.where(better[:, None], picks, best)
            best_cosine = torch.maximum(cosine, best_cosine)
        session.check_texts(indices, layout.filled(pool[best]).contents())
