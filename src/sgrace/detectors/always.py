"""Detectors with a constant verdict, to test that a measure depends on the images."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from .base import Detector, Identity, Options


class Always(Detector):
    """Detects the concept in every image."""

    name = "always"
    value = 1.0

    def __init__(self) -> None:
        self.identity = Identity(self.name, "1", "", (), 0.5)

    @classmethod
    def _made(cls, concept: str, options: Options) -> Self:
        del concept, options
        return cls()

    def scores(self, images: Tensor) -> Tensor:
        """The same score for all images."""
        return torch.full((len(images),), self.value)
