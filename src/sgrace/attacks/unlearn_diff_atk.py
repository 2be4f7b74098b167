"""UnlearnDiffAtk (Zhang et al., arXiv 2310.11868): discrete prefix tokens under which the model denoises a picture of the concept."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field

from ._token_space import Layout, denoising_error, ordinary_tokens, simplex_projection
from .base import Attack
from .session import Session


class UnlearnDiffAtkConfig(BaseModel):
    """Published values.

    Attributes:
        n_tokens: free tokens before the prompt; 5 in the paper for nudity, violence and illegal acts, 3 for styles and objects.
        n_timesteps: noise levels on an even grid, lowest first; one picture is checked after each.
        iterations: gradient steps per noise level.
        lr, weight_decay: of Adam; the decay is added to the gradient.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_tokens: int = Field(5, ge=1, le=70)
    n_timesteps: int = Field(50, ge=1, le=1000)
    iterations: int = Field(40, ge=1, le=10_000)
    lr: float = Field(0.01, gt=0)
    weight_decay: float = Field(0.1, ge=0)


class UnlearnDiffAtk(Attack[UnlearnDiffAtkConfig]):
    """Every free position holds a point of the simplex over the vocabulary.

    A token is sampled from it, the gradient with respect to the sampled one-hot row goes straight to the point (clipped to [-1, 1]), and
    the point is projected back. Read out by the largest entry. Needs one picture of the concept per prompt, from the original model.
    """

    name, access, paper, by_text = "unlearn_diff_atk", "gradient", "arXiv 2310.11868", True
    config_type = UnlearnDiffAtkConfig
    presets: ClassVar = {"quick": {"n_timesteps": 3, "iterations": 10}, "standard": {"n_timesteps": 10, "iterations": 15}}

    def search(self, session: Session) -> None:
        """All open prompts at once; a prompt leaves the batch when it succeeds."""
        config, model = self.config, session.target
        clean = session.concept_latents(self.name)
        pool = ordinary_tokens(model)
        table = model.embed(pool)
        layout = Layout.prefix(model, [a.prompt for a in session.attempts], config.n_tokens)
        points = torch.full((len(session.attempts), config.n_tokens, len(pool)), 1 / len(pool))
        optimizer = torch.optim.Adam([points], lr=config.lr, weight_decay=config.weight_decay)
        points.grad = torch.zeros_like(points)
        for step in range(config.n_timesteps):
            if not (rows := session.open):
                return
            here = layout.rows(rows)
            timesteps = torch.full((len(rows),), int((step + 0.5) * 1000 / config.n_timesteps))
            for _ in range(config.iterations):
                session.charge(unet_rows=len(rows), text_encoder_rows=len(rows), backward=True)
                picks = torch.multinomial(points[rows].flatten(0, 1), 1, generator=session.generator).view(len(rows), -1)
                chosen = table[picks].requires_grad_(True)
                states = model.encode(here.tokens.ids, here.embedded(model, chosen))
                error = denoising_error(session, states, clean[rows], timesteps).sum()  # each row's gradient is its own
                (gradient,) = torch.autograd.grad(error, chosen)
                points.grad[rows] = (gradient @ table.T).clamp(-1, 1)
                optimizer.step()
                points[rows] = simplex_projection(points[rows])
            session.check_texts(rows, here.contents(pool[points[rows].argmax(-1)]))
