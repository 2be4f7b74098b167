"""Where a denoiser looks: the maps of the layers that read the text.

They say where some tokens are in the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .base import DiffusionModel
from .sites import AttentionLayer


@contextmanager
def attention_maps(model: DiffusionModel) -> Iterator[list[Float[Tensor, "batch _ _ tokens"]]]:
    """After the block, the list holds the map of each text-reading layer, with gradient.

    One map for every call of the denoiser.

    A map ``(batch, heads, places, tokens)`` is computed again from the layer's queries and keys; the layer
    itself is untouched.
    """
    maps: list[Tensor] = []
    seen: list[_Seen] = []
    hooks = [hook for layer in model.sites.text_attention().values() for hook in _watch(layer, seen)]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()
    # The hooks only look: gradient checkpointing runs the layers once more without them, and must find the
    # same operations.
    maps.extend(_map_of(*each) for each in seen)


class _Seen(NamedTuple):
    """What one layer computed in one call: ``(batch, places or tokens, heads * width)``."""

    query: Tensor
    key: Tensor
    heads: int


def _watch(layer: AttentionLayer, seen: list[_Seen]) -> list[RemovableHandle]:
    """Hooks on one layer that note its queries and keys at each call."""
    # query and key of the call that is under way; taken out as soon as the layer returns
    made: dict[str, Tensor] = {}

    def keep(part: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            made[part] = output

        return hook

    def note(_module: nn.Module, _inputs: object, _output: object) -> None:
        seen.append(_Seen(made.pop("query"), made.pop("key"), layer.heads))

    return [
        layer.query.register_forward_hook(keep("query")),
        layer.key.register_forward_hook(keep("key")),
        layer.module.register_forward_hook(note),
    ]


def _map_of(query: Tensor, key: Tensor, heads: int) -> Tensor:
    # (batch, places, heads * width) -> (batch, heads, places, width); float32, as maps are compared and
    # differentiated
    queries = torch.unflatten(query.float(), -1, (heads, -1)).transpose(1, 2)
    keys = torch.unflatten(key.float(), -1, (heads, -1)).transpose(1, 2)
    return (queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])).softmax(-1)


def token_mask(
    maps: Sequence[Float[Tensor, "batch _ _ tokens"]], tokens: Bool[Tensor, "batch tokens"], threshold: float
) -> Bool[Tensor, "batch 1 side side"]:
    """Where the tokens are: their mean map, scaled to 0..1 in each image, is at least ``threshold``.

    Read from the layers of the second-coarsest size (16x16 in Stable Diffusion 1.x): the coarsest shows no
    place, finer ones are noisy.
    """
    # number of places of each layer, coarsest first
    sizes = sorted({layer.shape[2] for layer in maps})
    size = sizes[min(1, len(sizes) - 1)]
    # (batch, heads, places, tokens) -> mean over heads, then over layers: (batch, places, tokens)
    mean = torch.stack([layer.mean(1) for layer in maps if layer.shape[2] == size]).mean(0)
    # mean over the chosen tokens: (batch, places, tokens) -> (batch, places)
    share = (mean * tokens[:, None]).sum(-1) / tokens.sum(-1, keepdim=True)
    # each image by itself: attention to a token differs in height from image to image
    low = share.amin(1, keepdim=True)
    high = share.amax(1, keepdim=True)
    scaled = (share - low) / (high - low).clamp(min=1e-12)
    # images are square: (batch, places) -> (batch, 1, side, side)
    side = math.isqrt(size)
    return (scaled >= threshold).view(-1, 1, side, side)


def resized(mask: Bool[Tensor, "batch 1 side side"], side: int) -> Float[Tensor, "batch 1 side2 side2"]:
    """A mask of another size, as 0 and 1.

    Where it shrinks, a pixel is in if any part of it was, so that no mask vanishes.
    """
    values = mask.float()
    if side < mask.shape[-1]:
        return F.adaptive_max_pool2d(values, side)
    return F.interpolate(values, size=(side, side), mode="nearest")
