"""Any CLIP as a detector: the concept's prompt against other prompts (Radford et al., arXiv 2103.00020)."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Annotated, Protocol, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from .._util.errors import InputError
from .._util.hashing import sha256_of_files
from .._util.images import to_arrays
from ..models import quiet_libraries
from .base import Detector, Identity, Listed, Options

TEMPLATE = "a picture of {}"
BATCH = 32
NEEDS_SOURCE = (
    "The zero-shot detector needs the option `source`, a CLIP folder or hub id, "
    "unless the model has its own CLIP."
)


class ClipLike(Protocol):
    """Unit features of texts and images in one space."""

    @property
    def logit_scale(self) -> float:
        """Scale of the cosines before the softmax."""

    def texts(self, texts: list[str]) -> Tensor:
        """``(n, features)``."""

    def images(self, images: Tensor) -> Tensor:
        """``(n, features)`` of RGB images in -1..1."""


class HubClip:
    """A CLIP model of transformers, from a folder or a hub id."""

    def __init__(self, source: str) -> None:
        from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer  # noqa: PLC0415  (only where it is asked for)

        try:
            with quiet_libraries():
                self.model = CLIPModel.from_pretrained(source, use_safetensors=True).eval()
                self.tokenizer = CLIPTokenizer.from_pretrained(source)
                self.processor = CLIPImageProcessorPil.from_pretrained(source)
        except (OSError, ValueError) as error:
            raise InputError(
                f"Cannot load {source!r} as a CLIP model ({' '.join(str(error).split())[:120]})."
            ) from error
        self.logit_scale = self.model.logit_scale.detach().exp().item()

    @torch.no_grad()
    def texts(self, texts: list[str]) -> Tensor:
        """``(n, features)``."""
        tokens = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        return F.normalize(self.model.get_text_features(**tokens).pooler_output, dim=1)

    @torch.no_grad()
    def images(self, images: Tensor) -> Tensor:
        """``(n, features)`` of RGB images in -1..1, resized by the model's own processor."""
        pixels = [
            self.processor(list(to_arrays(chunk)), return_tensors="pt").pixel_values
            for chunk in images.split(BATCH)
        ]
        return F.normalize(
            torch.cat([self.model.get_image_features(chunk).pooler_output for chunk in pixels]), dim=1
        )


class ClipZeroShotOptions(Options):
    """Options of the zero-shot detector."""

    source: str | None = Field(
        None, description="Folder or hub id of a CLIP; default the model's own, if it has one."
    )
    words: Annotated[tuple[str, ...], Listed] = Field(
        (), description="Words of the concept, separated by commas; default its name."
    )
    others: Annotated[tuple[str, ...], Listed] = Field(
        (), description="Words of what else an image may show, separated by commas."
    )


class ClipZeroShot(Detector):
    """Softmax probability of the concept's prompts against prompts of other things."""

    name = "clip_zero_shot"
    options_type = ClipZeroShotOptions

    def __init__(
        self,
        concept: tuple[str, ...],
        alternatives: tuple[str, ...],
        clip: ClipLike,
        *,
        version: str,
        weights: str,
    ) -> None:
        if not concept or not alternatives:
            raise InputError("A zero-shot detector needs words of the concept and words of other things.")
        self.clip = clip
        self.n_concept = len(concept)
        self.text = clip.texts([TEMPLATE.format(word) for word in (*concept, *alternatives)])
        self.identity = Identity(self.name, version, weights, concept, 0.5, others=alternatives)

    @classmethod
    def _made(cls, concept: str, options: ClipZeroShotOptions) -> Self:
        if options.source is None:
            raise InputError(NEEDS_SOURCE)
        return cls.from_hub(options.words or (concept,), options.others, options.source)

    @classmethod
    def from_hub(cls, concept: tuple[str, ...], alternatives: tuple[str, ...], source: str) -> Self:
        """From a CLIP folder or hub id, with words of the concept and of what else an image may show."""
        weights = sha256_of_files(weight_files(Path(source))) if Path(source).is_dir() else source
        return cls(
            concept, alternatives, HubClip(source), version=metadata.version("transformers"), weights=weights
        )

    def scores(self, images: Tensor) -> Tensor:
        """Images of any size; the model's processor resizes them."""
        logits = self.clip.logit_scale * self.clip.images(images) @ self.text.T
        return logits.softmax(1)[:, : self.n_concept].sum(1)


def weight_files(folder: Path) -> list[Path]:
    """Files of a folder that decide what its network computes."""
    return sorted(folder.glob("*.safetensors"))
