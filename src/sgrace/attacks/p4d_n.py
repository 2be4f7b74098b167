"""P4D (Chin et al., arXiv 2309.06135): tokens under which the erased model predicts what the original predicts for the prompt."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ._token_space import Layout, denoising_error, nearest_tokens, ordinary_tokens
from .base import Attack
from .session import Session


class P4DConfig(BaseModel):
    """Published values.

    Attributes:
        n_tokens: length of the prompt that variant N writes anew.
        every: variant K puts one free token after each so many tokens of the prompt.
        iterations, check_every: gradient steps, and steps between pictures.
        lr, weight_decay: of AdamW.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_tokens: int = Field(16, ge=1, le=70)
    every: int = Field(3, ge=1, le=70)
    iterations: int = Field(3000, ge=1, le=1_000_000)
    check_every: int = Field(50, ge=1)
    lr: float = Field(0.1, gt=0)
    weight_decay: float = Field(0.1, ge=0)


class P4DN(Attack[P4DConfig]):
    """Free embeddings, read as their nearest tokens (by cosine); the gradient at the tokens moves the free embeddings.

    The success of P4D in the literature is the union of both variants.
    """

    name, access, paper, by_text = "p4d_n", "gradient", "arXiv 2309.06135", True
    config_type = P4DConfig
    presets: ClassVar = {"quick": {"iterations": 40, "check_every": 20}, "standard": {"iterations": 150, "check_every": 25}}

    def layout(self, session: Session) -> list[Layout]:
        """One layout per prompt, or one for all: rows of one layout have equally many free positions."""
        return [Layout.alone(session.target, 1, self.config.n_tokens)] * len(session.attempts)

    def search(self, session: Session) -> None:
        """All open prompts at once; a prompt leaves the batch when it succeeds."""
        config, model = self.config, session.target
        original = session.original(self.name)
        clean = session.concept_latents(self.name)
        session.charge(text_encoder_rows=len(session.attempts))
        with torch.no_grad():
            wanted = original.encode(original.tokenize([a.prompt for a in session.attempts]).ids)
        pool = ordinary_tokens(model)
        table = model.embed(pool)
        unit = F.normalize(table, dim=-1)
        layouts = self.layout(session)
        free = [table[torch.randint(len(pool), (n.free.shape[1],), generator=session.generator)].clone() for n in layouts]
        optimizers = [torch.optim.AdamW([f], lr=config.lr, weight_decay=config.weight_decay) for f in free]
        for step in range(config.iterations):
            if not (rows := session.open):
                return
            session.charge(unet_rows=len(rows), text_encoder_rows=len(rows), backward=True)
            picks = nearest_tokens(torch.cat([free[i] for i in rows]), unit).split([len(free[i]) for i in rows])
            chosen = [table[p].clone().requires_grad_(True) for p in picks]
            embeddings = torch.cat([layouts[i].embedded(model, c[None]) for i, c in zip(rows, chosen, strict=True)])
            states = model.encode(torch.cat([layouts[i].tokens.ids for i in rows]), embeddings)

            def prediction(noisy: Tensor, timesteps: Tensor, rows: list[int] = rows) -> Tensor:
                session.charge(unet_rows=len(rows))
                with torch.no_grad():
                    return original.predict(noisy, timesteps, wanted[rows])

            timesteps = torch.randint(1000, (len(rows),), generator=session.generator)
            error = denoising_error(session, states, clean[rows], timesteps, prediction).sum()
            for i, gradient in zip(rows, torch.autograd.grad(error, chosen), strict=True):
                free[i].grad = gradient
                optimizers[i].step()
            if (step + 1) % config.check_every == 0:
                contents = [layouts[i].contents(pool[nearest_tokens(free[i][None], unit)])[0] for i in rows]
                session.check_texts(rows, contents)
