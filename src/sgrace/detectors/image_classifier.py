"""A Hugging Face image classifier as a detector. Classes are chosen by id, never by part of their name."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Annotated, Self

import torch
from pydantic import Field
from torch import Tensor

from .._util.errors import InputError
from .._util.hashing import sha256_of_files
from .._util.images import to_arrays
from ..models import quiet_libraries
from .base import Detector, Identity, Listed, Options

#: Class ids of ImageNet-1k that the literature erases (``microsoft/resnet-50`` and others).
IMAGENET_IDS = {
    "tench": 0,
    "english springer": 217,
    "cassette player": 482,
    "chain saw": 491,
    "church": 497,
    "french horn": 566,
    "garbage truck": 569,
    "gas pump": 571,
    "golf ball": 574,
    "parachute": 701,
}
RESNET_50 = "microsoft/resnet-50"


class ImageClassifierOptions(Options):
    """Options of :class:`ImageClassifier`."""

    source: str = Field(RESNET_50, description="Folder or hub id of an image-classification model.")
    class_ids: Annotated[tuple[int, ...], Listed] = Field(
        (),
        description="Outputs that show the concept, separated by commas; default: the ids of the literature.",
    )
    top_k: int = Field(
        1,
        ge=0,
        description="Rank that one of them must reach; 0 compares their probability with the threshold.",
    )


class ImageClassifier(Detector):
    """Top-k rank of the concept's best class, as in the literature, or the probability of its classes.

    Args:
        source: folder or hub id of an image-classification model.
        class_ids: outputs that show the concept.
        top_k: if given, the score is 1 if one of the classes is among the ``top_k`` best, else 0. If None,
            the score is the sum of their probabilities.
    """

    name = "image_classifier"
    options_type = ImageClassifierOptions

    def __init__(self, source: str, class_ids: tuple[int, ...], *, top_k: int | None = 1) -> None:
        from transformers import AutoImageProcessor, AutoModelForImageClassification  # noqa: PLC0415  (only where it is asked for)

        try:
            with quiet_libraries():
                network = AutoModelForImageClassification.from_pretrained(source, use_safetensors=True)
                self.processor = AutoImageProcessor.from_pretrained(source)
            self.model = network.eval()
        except (OSError, ValueError) as error:
            raise InputError(
                f"Cannot load {source!r} as an image classifier ({' '.join(str(error).split())[:120]})."
            ) from error
        labels = self.model.config.id2label
        if bad := [i for i in class_ids if i not in labels]:
            raise InputError(f"{source} has classes 0 to {len(labels) - 1}, not {bad[0]}.")
        self.class_ids = list(class_ids)
        self.top_k = top_k
        names = tuple(f"{i}: {labels[i]}" for i in class_ids)
        weights = sha256_of_files(Path(source).glob("*.safetensors")) if Path(source).is_dir() else source
        rule = f"top {top_k}" if top_k else "probability"
        self.identity = Identity(
            self.name, f"transformers {metadata.version('transformers')}, {rule}", weights, names, 0.5
        )

    @classmethod
    def _made(cls, concept: str, options: ImageClassifierOptions) -> Self:
        ids = options.class_ids
        if not ids and options.source != RESNET_50:
            raise InputError(
                "An image classifier needs the option `class_ids`, separated by commas: "
                "the outputs that show the concept."
            )
        if not ids and concept not in IMAGENET_IDS:
            raise InputError(
                f"No ImageNet class id is known for {concept!r}; known: {', '.join(IMAGENET_IDS)}."
            )
        return cls(options.source, ids or (IMAGENET_IDS[concept],), top_k=options.top_k or None)

    @torch.no_grad()
    def scores(self, images: Tensor) -> Tensor:
        """Images of any size; the model's own processor resizes them."""
        arrays = to_arrays(images)
        logits: Tensor = self.model(**self.processor(list(arrays), return_tensors="pt")).logits
        if self.top_k is None:
            return logits.softmax(1)[:, self.class_ids].sum(1).clamp(max=1)
        best = logits.topk(self.top_k, dim=1).indices
        return torch.isin(best, torch.tensor(self.class_ids)).any(1).float()
