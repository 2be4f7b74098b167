"""Concept inversion, also CCE (Pham et al., arXiv 2308.01508): a word learned from images of the concept."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field

from .._util.device import batches, randint
from ..models import Conditioning
from ._token_space import Denoising, Layout, gradient
from .base import Attack
from .session import Session


class ConceptInversionConfig(BaseModel):
    """Settings of the textual inversion."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    iterations: int = Field(
        5000,
        ge=1,
        le=1_000_000,
        description="Gradient steps; as published with an effective rate of 0.08 and 16 images a step.",
    )
    batch: int = Field(16, ge=1, le=1024, description="Images in a step.")
    lr: float = Field(0.08, gt=0, description="Learning rate of AdamW.")
    weight_decay: float = Field(0.01, ge=0, description="Weight decay of AdamW.")
    n_checks: int = Field(
        4, ge=1, le=100, description="Evenly spaced moments of the training at which images are checked."
    )


class ConceptInversion(Attack[ConceptInversionConfig]):
    """One embedding for the whole concept, put before every prompt.

    It edits the embedding table: an upper bound on what is left, not a prompt that a user could enter.
    """

    name = "concept_inversion"
    access = "weights"
    paper = "arXiv 2308.01508"
    by_text = False
    config_type = ConceptInversionConfig
    templates = ("{}", "a picture of {}", "a photo of a {}", "a drawing of {}", "an image of the {}")

    presets: ClassVar = {
        "quick": {"iterations": 80, "batch": 8, "lr": 0.02, "n_checks": 4},
        "standard": {"iterations": 400, "batch": 8, "lr": 0.02, "n_checks": 8},
    }

    def search(self, session: Session) -> None:
        """Learn the word on all images; check it on the open prompts."""
        config = self.config
        model = session.target
        generator = session.generator
        clean = session.concept_latents(self.name)
        pool = model.text.main.ordinary_tokens()
        templates = Layout.within(model, self.templates)
        prompts = Layout.prefix(model, [a.prompt for a in session.attempts], 1)
        word = model.text.main.embed(pool[randint(len(pool), (1,), generator, model.device)])
        optimizer = torch.optim.AdamW([word], lr=config.lr, weight_decay=config.weight_decay)
        moments = {round((i + 1) * config.iterations / config.n_checks) for i in range(config.n_checks)}
        for step in range(1, config.iterations + 1):
            session.charge(denoiser_rows=config.batch, text_encoder_rows=config.batch, backward=True)
            shown = randint(len(clean), (config.batch,), generator, model.device)
            picks = torch.randint(len(templates), (config.batch,), generator=generator).tolist()
            timesteps = model.schedule.sample_timesteps(config.batch, generator)
            task = Denoising.of(session, clean[shown], timesteps)
            found = gradient(model, templates[picks], word.expand(config.batch, -1), task.errors)
            word.grad = found.values.mean(0, keepdim=True)
            optimizer.step()
            if step in moments:
                indices = session.open
                if not indices:
                    return
                session.charge(text_encoder_rows=len(indices))
                session.check(indices, self._with_word(session, prompts[indices], word))
                session.tensors["word"] = word.detach().cpu().clone()

    @staticmethod
    @torch.no_grad()
    def _with_word(session: Session, prompts: Layout, word: torch.Tensor) -> Conditioning:
        model = session.target
        parts = [prompts[part] for part in batches(len(prompts), model.batch_size)]
        return Conditioning.cat([part.encode(model, word.expand(len(part), -1)) for part in parts])
