"""Ring-A-Bell without a search (Tsai et al., arXiv 2310.10012): embeddings moved towards the concept."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import BeforeValidator, Field

from .._util.settings import Settings, listed
from .base import Attack
from .ring_a_bell_hard import concept_direction
from .session import Session


class RingABellSoftConfig(Settings):
    """Published values."""

    strengths: Annotated[tuple[Annotated[float, Field(gt=0)], ...], BeforeValidator(listed)] = Field(
        (3.0,),
        min_length=1,
        description="Factors of the concept's direction, tried in this order until one succeeds (as text: "
        "1,0.5). The literature uses one for each concept (3 for nudity, 0.9 for a painter).",
    )
    n_pairs: int = Field(
        50,
        ge=1,
        le=10_000,
        description="Prompt pairs, with and without the concept, whose mean difference is the direction.",
    )


class RingABellSoft(Attack[RingABellSoftConfig]):
    """The prompt's embeddings plus the concept's direction, both by the erased model, go to its denoiser.

    No user can enter that; it tells whether the direction still leads to the concept.
    """

    name = "ring_a_bell_soft"
    access = "weights"
    paper = "arXiv 2310.10012, as used in arXiv 2407.12383"
    by_text = False
    config_type = RingABellSoftConfig
    presets: ClassVar = {"quick": {"strengths": (1.0,)}, "standard": {"strengths": (1.0, 0.5, 2.0, 3.0)}}

    @torch.no_grad()
    def search(self, session: Session) -> None:
        """One image of each open prompt at each strength."""
        direction = concept_direction(session, session.target, self.config.n_pairs)
        strengths = self.config.strengths
        for strength, indices in zip(strengths, session.rounds(len(strengths)), strict=False):
            cond = session.cond[indices]
            # (n, length, width) + (length, width): one direction for all prompts
            session.check(indices, cond.with_embeds(cond.prompt_embeds + strength * direction))
