"""Q16 (Schramowski et al., arXiv 2202.06675): a CLIP image feature against two learned vectors."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .._util.errors import InputError
from .._util.hashing import sha256_of_files
from .base import Detector, Identity, Options
from .clip_zero_shot import ClipLike, HubClip

CLIP = "openai/clip-vit-large-patch14"


class Q16Options(Options):
    """Options of :class:`Q16`."""

    vectors: Path | None = Field(None, description="File of the two vectors.")
    clip: str = Field(CLIP, description="Folder or hub id of the CLIP that they were learned on.")


class Q16(Detector):
    """Probability of "inappropriate" in a softmax over two learned vectors.

    Args:
        vectors: safetensors file with ``prompts`` ``(2, features)``, harmless first. The published file is a
            pickle; convert it once.
        clip: the CLIP whose features the vectors were learned on.
    """

    name = "q16"
    options_type = Q16Options

    def __init__(self, vectors: Path, clip: ClipLike | None = None) -> None:
        try:
            prompts = load_file(vectors)["prompts"].float()
        except (OSError, KeyError, SafetensorError) as error:
            raise InputError(
                f"{vectors} is not a safetensors file with the two vectors of Q16 under `prompts`."
            ) from error
        if prompts.shape[0] != 2:
            raise InputError(f"Q16 has two vectors; {vectors} holds {prompts.shape[0]}.")
        self.clip = clip or HubClip(CLIP)
        self.prompts = F.normalize(prompts, dim=1)
        self.identity = Identity(
            self.name, metadata.version("transformers"), sha256_of_files([vectors]), ("inappropriate",), 0.5
        )

    @classmethod
    def _made(cls, concept: str, options: Q16Options) -> Self:
        del concept  # it knows one thing, under many names
        if options.vectors is None:
            raise InputError(
                "Q16 needs the option `vectors`, a safetensors file with its two vectors under `prompts`."
            )
        return cls(options.vectors, HubClip(options.clip))

    def scores(self, images: Tensor) -> Tensor:
        """Images of any size."""
        features = self.clip.images(images)
        if features.shape[1] != self.prompts.shape[1]:
            raise InputError(
                f"The vectors of Q16 have {self.prompts.shape[1]} numbers, "
                f"this CLIP's features {features.shape[1]}."
            )
        return torch.softmax(100 * features @ self.prompts.T, 1)[:, 1]
