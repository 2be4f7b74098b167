"""The built-in CLIP pair: features of texts and images in one space."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from . import vocabulary


@dataclass(frozen=True)
class Clip:
    """Text and image encoder of the built-in model (a text encoder that was erased takes no part)."""

    tokenizer: CLIPTokenizer
    text: CLIPTextModel
    image: CLIPVisionModelWithProjection
    projection: Tensor
    logit_scale: float  # learned factor of the cosines

    @classmethod
    def from_pretrained(cls, path: Path) -> Self:
        """Load the encoders of a built-in pipeline folder."""
        shared = load_file(path / "text_projection.safetensors")
        return cls(
            CLIPTokenizer.from_pretrained(path / "tokenizer"),
            CLIPTextModel.from_pretrained(path / "text_encoder", dtype=torch.float32).eval(),
            CLIPVisionModelWithProjection.from_pretrained(path / "image_encoder", dtype=torch.float32).eval(),
            shared["weight"].float(),
            shared["logit_scale"].exp().item(),
        )

    @torch.no_grad()
    def texts(self, texts: list[str]) -> Tensor:
        """Unit features ``(n, features)``."""
        ids = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt").input_ids
        return F.normalize(self.text(ids).pooler_output @ self.projection.T, dim=-1)

    @torch.no_grad()
    def images(self, images: Tensor, batch: int = 128) -> Tensor:
        """Unit features ``(n, features)`` of images ``(n, 3, 64, 64)`` in -1..1."""
        return F.normalize(
            torch.cat([self.image(chunk).image_embeds for chunk in images.split(batch)]), dim=-1
        )

    @torch.no_grad()
    def layers(self, images: Tensor, batch: int = 128) -> list[Tensor]:
        """Outputs of the image encoder's layers ``(n, channels, places)`` for images in -1..1."""
        parts = [
            self.image(chunk, output_hidden_states=True).hidden_states[1:] for chunk in images.split(batch)
        ]
        # the first position is the class token
        return [torch.cat(layer)[:, 1:].transpose(1, 2) for layer in zip(*parts, strict=True)]

    def classify(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Zero-shot reading: index of the nearest class and of the nearest style, each ``(n,)``."""
        features = self.images(images)
        classes = self.texts([f"a picture of {name}" for name in vocabulary.classes()])
        styles = torch.stack(
            [self.texts(list(vocabulary.STYLE_PHRASES[style])).mean(0) for style in vocabulary.STYLES]
        )
        return (features @ classes.T).argmax(1), (features @ F.normalize(styles, dim=-1).T).argmax(1)
