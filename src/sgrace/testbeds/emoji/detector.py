"""The built-in model's judge as a detector of one of its concepts."""

from __future__ import annotations

from importlib import metadata
from typing import Self

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..._util.hashing import sha256_of_files
from ...detectors.base import Detector, Identity, Known, Options
from .. import emoji
from . import Judge, vocabulary
from .judge import VALIDATION

THRESHOLD = 0.5


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
        weights = sha256_of_files([emoji.path() / "judge.safetensors"])
        self.known = self._known()
        record = self.known.record(THRESHOLD)
        self.identity = Identity(self.name, metadata.version("sgrace"), weights, self.classes, THRESHOLD, validation=record)

    @classmethod
    def _made(cls, concept: str, options: Options) -> Self:
        del options
        return cls(concept)

    def _known(self) -> Known:
        """Scores in the package: real drawings, changed in ways that the judge never saw in training."""
        found = load_file(emoji.path() / VALIDATION)
        scores, truth = (found["styles"], found["style"]) if self.is_style else (found["classes"], found["label"])
        own, shown = scores[:, self.columns].float().sum(1) / 255, torch.isin(truth, torch.tensor(self.columns))
        return Known(own[shown], own[~shown], "real drawings under six changes that the judge never saw")

    def scores(self, images: Tensor) -> Tensor:
        """Pictures ``(n, 3, 64, 64)``."""
        verdict = self.judge.judge(images)
        return (verdict.styles if self.is_style else verdict.classes)[:, self.columns].sum(1)
