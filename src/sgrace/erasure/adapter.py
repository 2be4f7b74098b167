"""Adapters that an erasure puts beside a denoiser's weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Adapter:
    """Tensors beside those of the denoiser.

    Attributes:
        kind: how they are laid out and used, of :data:`~sgrace.models.adapters.KINDS`.
        tensors: by name; a part of each name, between slashes, is the layer's.
        component: the denoiser's name in the pipeline.
    """

    kind: str
    tensors: Mapping[str, Tensor]
    component: str = "unet"

    def layers(self, module: nn.Module) -> tuple[str, ...]:
        """Beginnings of the names of all parameters in the layers that have an adapter."""
        known = {name for name, _ in module.named_modules() if name}
        parts = dict.fromkeys(part for name in self.tensors for part in name.split("/"))
        return tuple(f"{part}." for part in parts if part in known)
