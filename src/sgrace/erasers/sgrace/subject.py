"""One concept of a run of S-GRACE, and what stays constant about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from ...concept import Concept
from ...knowledge import Knowledge
from .features import Features


class Ranked(NamedTuple):
    """A word and the cosine of its text feature to the concept's."""

    word: str
    cosine: float


@dataclass(frozen=True)
class Replacement:
    """What takes a concept's place.

    Attributes:
        word: empty where the settings need none.
        ranking: the nearest candidates, where it was chosen automatically.
        unlike: how badly the concept's words explain the images of some of them, where these were looked at.
    """

    word: str
    ranking: list[Ranked]
    unlike: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Points:
    """Where the attack asks the denoiser, and the noise that it imitates there."""

    latents: Float[Tensor, "pairs ..."]
    timesteps: Float[Tensor, " pairs"]
    goals: Float[Tensor, "pairs ..."]


@dataclass(frozen=True)
class Subject:
    """One concept and everything about it that stays constant.

    Attributes:
        concept, words: with the words that the settings leave.
        feature: what the erase loss compares, one row.
        pooled: the text feature that the attack aligns with ``(features,)``.
        replacement: what takes its place.
        points: of the attack.
    """

    concept: Concept
    words: Knowledge
    feature: Features
    pooled: Float[Tensor, " features"]
    replacement: Replacement
    points: Points

    @property
    def names(self) -> list[str]:
        """The concept's name, then its words, each once."""
        return list(dict.fromkeys([self.concept.name, *self.words.related]))

    @property
    def related(self) -> tuple[str, ...]:
        """Words that samples are made of; at least the concept's name."""
        return self.words.related or (self.concept.name,)
