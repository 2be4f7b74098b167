"""Detectors of the built-in model's concepts: its judge, and its own CLIP."""

from __future__ import annotations

from importlib import metadata
from typing import Self

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..._util.errors import InputError
from ..._util.hashing import sha256_of_files
from ...detectors.base import Detector, Identity, Known, Options
from ...detectors.clip_zero_shot import NEEDS_SOURCE, ClipZeroShot, ClipZeroShotOptions, weight_files
from . import vocabulary
from .clip import Clip
from .concepts import path, resolve
from .judge import VALIDATION, Judge

THRESHOLD = 0.5


class EmojiJudge(Detector):
    """Summed probability of a concept's classes, or of its style.

    Concepts are classes, families, styles and keywords of the built-in model.
    """

    name = "emoji_judge"

    def __init__(self, concept: str) -> None:
        found = resolve(concept)
        self.judge = Judge.from_pretrained(path())
        self.is_style = found.style is not None
        self.classes = (concept,) if self.is_style else found.targets
        order = vocabulary.STYLES if self.is_style else vocabulary.classes()
        self.columns = [order.index(name) for name in self.classes]
        weights = sha256_of_files([path() / "judge.safetensors"])
        self.known = self._known()
        record = self.known.record(THRESHOLD)
        self.identity = Identity(
            self.name, metadata.version("sgrace"), weights, self.classes, THRESHOLD, validation=record
        )

    @classmethod
    def _made(cls, concept: str, options: Options) -> Self:
        del options
        return cls(concept)

    def _known(self) -> Known:
        """Scores in the package: real drawings under changes that were not used in training."""
        found = load_file(path() / VALIDATION)
        scores = found["styles"] if self.is_style else found["classes"]
        truth = found["style"] if self.is_style else found["label"]
        own = scores[:, self.columns].float().sum(1) / 255
        shown = torch.isin(truth, torch.tensor(self.columns))
        return Known(own[shown], own[~shown], "real drawings under six changes that the judge never saw")

    def scores(self, images: Tensor) -> Tensor:
        """Images ``(n, 3, 64, 64)``."""
        verdict = self.judge.judge(images)
        return (verdict.styles if self.is_style else verdict.classes)[:, self.columns].sum(1)


class BuiltInClip(ClipZeroShot):
    """The zero-shot detector with the built-in CLIP by default.

    A class competes with all other classes, a style with the other styles.
    """

    name = "clip_zero_shot"

    @classmethod
    def _made(cls, concept: str, options: ClipZeroShotOptions) -> Self:
        if options.source is not None:
            return super()._made(concept, options)
        if options.words or options.others:
            raise InputError(NEEDS_SOURCE)
        found = resolve(concept)
        if found.style is None:
            words = found.targets
            others = (*found.neighbours, *found.unrelated)
        else:
            words = (found.style,)
            others = found.neighbours
        parts = [path() / part for part in ("text_encoder", "image_encoder")]
        weights = [
            path() / "text_projection.safetensors",
            *(file for part in parts for file in weight_files(part)),
        ]
        version = metadata.version("sgrace")
        return cls(
            words, others, Clip.from_pretrained(path()), version=version, weights=sha256_of_files(weights)
        )
