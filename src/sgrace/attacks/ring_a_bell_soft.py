"""Ring-A-Bell without a search (Tsai et al., arXiv 2310.10012): text states moved along the concept's direction."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from .base import Attack
from .ring_a_bell_hard import concept_direction
from .session import Session


class RingABellSoftConfig(BaseModel):
    """Published values.

    Attributes:
        strengths: factors of the concept's direction, tried in this order until one succeeds (as text: ``1,0.5``). The literature uses one
            per concept (3 for nudity, 0.9 for a painter); too much of it leaves what the denoiser can read.
        n_pairs: prompt pairs, with and without the concept, whose mean difference is the direction.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    strengths: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...], BeforeValidator(lambda given: given.split(",") if isinstance(given, str) else given)
    ] = Field((3.0,), min_length=1)
    n_pairs: int = Field(50, ge=1, le=10_000)


class RingABellSoft(Attack[RingABellSoftConfig]):
    """The prompt's text states plus the concept's direction, both by the erased model's own text encoder, go straight to its denoiser.

    No user can enter that; it tells whether the direction still leads to the concept.
    """

    name, access, paper, by_text = "ring_a_bell_soft", "weights", "arXiv 2310.10012, as used in arXiv 2407.12383", False
    config_type = RingABellSoftConfig
    presets: ClassVar = {"quick": {"strengths": (1.0,)}, "standard": {"strengths": (1.0, 0.5, 2.0, 3.0)}}

    @torch.no_grad()
    def search(self, session: Session) -> None:
        """One picture of each open prompt at each strength."""
        direction = concept_direction(session, session.target, self.config.n_pairs)
        for strength in self.config.strengths:
            if not (rows := session.open):
                return
            session.check(rows, session.states[rows] + strength * direction)
