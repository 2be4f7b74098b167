"""The two CLIP text encoders of Stable Diffusion XL and 3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..text import Place, TextEncoder


def clip_pair(networks: Mapping[str, nn.Module], pipeline: Any) -> list[TextEncoder]:  # noqa: ANN401
    """Both encoders of a pipeline; their states stand side by side at the first positions."""
    names = {"clip_l": "", "clip_g": "_2"}
    encoders: list[TextEncoder] = []
    for name, end in names.items():
        component = f"text_encoder{end}"
        module: Any = networks[component]
        left = sum(own.width for own in encoders)
        place = Place(
            slice(module.config.max_position_embeddings), slice(left, left + module.config.hidden_size)
        )
        encoders.append(
            TextEncoder(name, component, module, getattr(pipeline, f"tokenizer{end}"), place=place)
        )
    return encoders
