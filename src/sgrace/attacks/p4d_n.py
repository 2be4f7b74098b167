"""P4D (Chin et al., arXiv 2309.06135): tokens under which the erased model predicts as the original does."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field

from .._util.device import randint
from .._util.settings import Settings
from ..models.needs import Need
from ._token_space import Denoising, Layout, gradient, nearest_tokens
from .base import Attack
from .session import Session


class P4DConfig(Settings):
    """Published values."""

    n_tokens: int = Field(16, ge=1, le=70, description="Length of the prompt that variant N writes anew.")
    every: int = Field(
        3, ge=1, le=70, description="Tokens of the prompt between two free tokens (variant K)."
    )
    iterations: int = Field(3000, ge=1, le=1_000_000, description="Gradient steps.")
    check_every: int = Field(50, ge=1, description="Gradient steps between images.")
    lr: float = Field(0.1, gt=0, description="Learning rate of AdamW.")
    weight_decay: float = Field(0.1, ge=0, description="Weight decay of AdamW.")


class P4DN(Attack[P4DConfig]):
    """Free embeddings, read as their nearest tokens (by cosine); the gradient at the tokens moves them.

    The original's prediction for the prompt is the goal.
    The success of P4D in the literature is the union of both variants.
    """

    name = "p4d_n"
    access = "gradient"
    paper = "arXiv 2309.06135"
    by_text = True
    needs = frozenset({Need.GRADIENTS})
    config_type = P4DConfig
    presets: ClassVar = {
        "quick": {"iterations": 40, "check_every": 20},
        "standard": {"iterations": 150, "check_every": 25},
    }

    def layout(self, session: Session) -> Layout:
        """The prompts with their free tokens."""
        return Layout.alone(session.target, len(session.attempts), self.config.n_tokens)

    def search(self, session: Session) -> None:
        """All open prompts at once; a prompt leaves when it succeeds."""
        config = self.config
        model = session.target
        original = session.original(self.name)
        clean = session.concept_latents(self.name)
        session.charge(text_encoder_rows=len(session.attempts))
        wanted = session.encode(original, [a.prompt for a in session.attempts])
        pool = model.text.main.ordinary_tokens()
        table = model.text.main.embed(pool)
        # of length 1, so that a product with it ranks by cosine
        unit = F.normalize(table, dim=-1)
        layout = self.layout(session)
        starts = [randint(len(pool), (count,), session.generator, model.device) for count in layout.counts]
        # start on real tokens; from there on they are free vectors, (k, width) a prompt
        free = [table[start] for start in starts]
        # one optimizer a prompt: a prompt that has left must not move the others
        optimizers = [
            torch.optim.AdamW([own], lr=config.lr, weight_decay=config.weight_decay) for own in free
        ]
        for step, indices in enumerate(session.rounds(config.iterations), 1):
            here = layout[indices]
            # the network reads the nearest tokens; the free vectors only remember the gradients
            picks = nearest_tokens(torch.cat([free[i] for i in indices]), unit)
            timesteps = model.schedule.sample_timesteps(len(indices), session.generator)
            task = Denoising.of(session, clean[indices], timesteps)
            session.charge(denoiser_rows=len(indices))
            # the goal is what the original predicts, not the true noise
            task = task.with_goal_of(original, wanted[indices])
            session.charge(denoiser_rows=len(indices), text_encoder_rows=len(indices), backward=True)
            found = gradient(model, here.filled(pool[picks]), table[picks], task.errors)
            # straight through: the gradient at the token moves the vector that it was nearest to
            for i, own in zip(indices, torch.split(found.values, here.counts), strict=True):
                free[i].grad = own
                optimizers[i].step()
            if step % config.check_every == 0:
                picks = nearest_tokens(torch.cat([free[i] for i in indices]), unit)
                session.check_texts(indices, here.filled(pool[picks]).contents())
