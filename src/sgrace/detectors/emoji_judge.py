"""The built-in model's judge as a detector of one of its concepts."""

from __future__ import annotations

from importlib import metadata
from typing import Self

from torch import Tensor

from .. import emoji
from ..emoji import Judge, vocabulary
from .base import Detector, Identity, Options, digest


class EmojiJudge(Detector):
    """Probability of the classes of a concept together, or of its style: a class, family, style or keyword of the built-in model."""

    name = "emoji_judge"

    def __init__(self, concept: str) -> None:
        found = emoji.resolve(concept)
        self.judge = Judge.from_pretrained(emoji.path())
        self.is_style = found.style is not None
        self.classes = (concept,) if self.is_style else found.targets
        order = vocabulary.STYLES if self.is_style else vocabulary.classes()
        self.columns = [order.index(name) for name in self.classes]
        weights = digest([emoji.path() / "judge.safetensors"])
        self.identity = Identity(self.name, metadata.version("sgrace"), weights, self.classes, 0.5)

    @classmethod
    def _made(cls, concept: str, options: Options) -> Self:
        del options
        return cls(concept)

    def scores(self, images: Tensor) -> Tensor:
        """Pictures ``(n, 3, 64, 64)``."""
        verdict = self.judge.judge(images)
        return (verdict.styles if self.is_style else verdict.classes)[:, self.columns].sum(1)
