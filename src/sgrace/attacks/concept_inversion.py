"""Concept inversion, also CCE (Pham et al., arXiv 2308.01508): a new word whose embedding is learned from pictures of the concept."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field

from ._token_space import Layout, denoising_error, ordinary_tokens
from .base import Attack
from .session import Session


class ConceptInversionConfig(BaseModel):
    """Settings of the textual inversion.

    Attributes:
        iterations: gradient steps. The published 5,000 steps run at an effective rate of 0.08 and 16 pictures a step.
        batch: pictures per step.
        lr, weight_decay: of AdamW.
        n_checks: pictures of each prompt are drawn at so many evenly spaced moments of the training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    iterations: int = Field(5000, ge=1, le=1_000_000)
    batch: int = Field(16, ge=1, le=1024)
    lr: float = Field(0.08, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    n_checks: int = Field(4, ge=1, le=100)


class ConceptInversion(Attack[ConceptInversionConfig]):
    """One embedding for the whole concept, put before every prompt.

    It edits the embedding table: an upper bound on what is left, not a prompt that a user could enter.
    """

    name, access, paper, by_text = "concept_inversion", "weights", "arXiv 2308.01508", False
    config_type = ConceptInversionConfig
    templates = ("{}", "a picture of {}", "a photo of a {}", "a drawing of {}", "an image of the {}")

    presets: ClassVar = {
        "quick": {"iterations": 80, "batch": 8, "lr": 0.02, "n_checks": 4},
        "standard": {"iterations": 400, "batch": 8, "lr": 0.02, "n_checks": 8},
    }

    def search(self, session: Session) -> None:
        """Learn the word on all pictures; check it on the open prompts."""
        config, model, generator = self.config, session.target, session.generator
        clean = session.concept_latents(self.name)
        pool = ordinary_tokens(model)
        templates = [Layout.within(model, template) for template in self.templates]
        prompts = Layout.prefix(model, [a.prompt for a in session.attempts], 1)
        word = model.embed(pool[torch.randint(len(pool), (1,), generator=generator)]).clone()
        optimizer = torch.optim.AdamW([word], lr=config.lr, weight_decay=config.weight_decay)
        moments = {round((i + 1) * config.iterations / config.n_checks) for i in range(config.n_checks)}
        for step in range(1, config.iterations + 1):
            session.charge(unet_rows=config.batch, text_encoder_rows=config.batch, backward=True)
            shown = torch.randint(len(clean), (config.batch,), generator=generator)
            picks = torch.randint(len(templates), (config.batch,), generator=generator).tolist()
            word.requires_grad_(True)
            embeddings = torch.cat([templates[i].embedded(model, word[None]) for i in picks])
            states = model.encode(torch.cat([templates[i].tokens.ids for i in picks]), embeddings)
            timesteps = torch.randint(1000, (config.batch,), generator=generator)
            (gradient,) = torch.autograd.grad(denoising_error(session, states, clean[shown], timesteps).mean(), word)
            word.requires_grad_(False)
            word.grad = gradient
            optimizer.step()
            if step in moments:
                if not (rows := session.open):
                    return
                here = prompts.rows(rows)
                session.charge(text_encoder_rows=len(rows))
                with torch.no_grad():
                    states = model.encode(here.tokens.ids, here.embedded(model, word.expand(len(rows), 1, -1)))
                session.check(rows, states)
                session.tensors["word"] = word.clone()
