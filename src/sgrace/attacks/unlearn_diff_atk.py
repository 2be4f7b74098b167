"""UnlearnDiffAtk (Zhang et al., arXiv 2310.11868): prefix tokens that bring the concept back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from .._util.device import batches, multinomial
from .._util.settings import Settings
from ..models.needs import Need
from ._token_space import Denoising, Layout, gradient, simplex_projection
from .base import Attack
from .session import Session

#: Prompts whose tokens are sampled together. Not the model's batch size: it decides the random numbers.
SAMPLED_TOGETHER = 64


class UnlearnDiffAtkConfig(Settings):
    """Published values."""

    n_tokens: int = Field(
        5,
        ge=1,
        le=70,
        description="Free tokens before the prompt; published: 5 for nudity and violence, 3 for styles.",
    )
    n_timesteps: int = Field(
        50,
        ge=1,
        le=1000,
        description="Noise levels on an even grid, lowest first; one image is checked after each.",
    )
    iterations: int = Field(40, ge=1, le=10_000, description="Gradient steps at each noise level.")
    lr: float = Field(0.01, gt=0, description="Learning rate of Adam.")
    weight_decay: float = Field(0.1, ge=0, description="Weight decay, which is added to the gradient.")


class UnlearnDiffAtk(Attack[UnlearnDiffAtkConfig]):
    """Every free position holds a point of the simplex over the vocabulary.

    A token is sampled from it, the gradient with respect to the sampled one-hot row goes straight to the
    point (clipped to [-1, 1]), and the point is projected back. Read out by the largest entry. Needs one
    image of the concept for each prompt, from the original model.
    """

    name = "unlearn_diff_atk"
    access = "gradient"
    paper = "arXiv 2310.11868"
    by_text = True
    needs = frozenset({Need.GRADIENTS})
    config_type = UnlearnDiffAtkConfig
    presets: ClassVar = {
        "quick": {"n_timesteps": 3, "iterations": 10},
        "standard": {"n_timesteps": 10, "iterations": 15},
    }

    def search(self, session: Session) -> None:
        """All open prompts at once; a prompt leaves when it succeeds."""
        config = self.config
        model = session.target
        clean = session.concept_latents(self.name)
        pool = model.text.main.ordinary_tokens()
        table = model.text.main.embed(pool)
        layout = Layout.prefix(model, [a.prompt for a in session.attempts], config.n_tokens)
        # the largest tensors of the attack, (k, vocabulary) a prompt: they are worked on prompt by prompt
        points = [torch.full((k, len(pool)), 1 / len(pool), device=model.device) for k in layout.counts]
        optimizers = [
            torch.optim.Adam([own], lr=config.lr, weight_decay=config.weight_decay) for own in points
        ]
        for step, indices in enumerate(session.rounds(config.n_timesteps)):
            here = layout[indices]
            # the middle of each of n_timesteps equal parts of the schedule
            level = model.schedule.timestep_at((step + 0.5) / config.n_timesteps)
            for _ in range(config.iterations):
                session.charge(denoiser_rows=len(indices), text_encoder_rows=len(indices), backward=True)
                # a hard token for every position: the network never sees a mixture
                picks = sampled([points[i] for i in indices], session.generator)
                task = Denoising.of(session, clean[indices], torch.full((len(indices),), level))
                found = gradient(model, here.filled(pool[picks]), table[picks], task.errors)
                for i, own in zip(indices, torch.split(found.values, here.counts), strict=True):
                    # (k, width) @ (width, vocabulary): what each token would gain, straight through the
                    # sample
                    points[i].grad = (own @ table.T).clamp(-1, 1)
                    optimizers[i].step()
                    # freed at once: it is as large as the points, (k, vocabulary)
                    points[i].grad = None
                    points[i].copy_(simplex_projection(points[i]))
            # read out without chance
            picks = torch.cat([points[i].argmax(-1) for i in indices])
            session.check_texts(indices, here.filled(pool[picks]).contents())


def sampled(points: Sequence[Tensor], generator: torch.Generator) -> Int[Tensor, " free"]:
    """An index for each row of each prompt's points, with these chances."""
    device = points[0].device
    # (sum of k, vocabulary) for some prompts at a time
    parts = [torch.cat(tuple(points[part])) for part in batches(len(points), SAMPLED_TOGETHER)]
    return torch.cat([multinomial(part, 1, generator, device).flatten() for part in parts])
