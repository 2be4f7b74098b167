"""Where a denoiser looks: the cross-attention maps of its calls, and where they say that some tokens are in the picture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


@contextmanager
def attention_maps(unet: nn.Module) -> Iterator[list[Float[Tensor, "batch _ _ tokens"]]]:
    """Within the block, every call of the denoiser appends the map of each cross-attention layer to the list, with gradient.

    The layers compute what they always do: a map is made again from the queries and keys that a layer has made.
    """
    maps: list[Tensor] = []
    hooks = []
    for name, layer in unet.named_modules():
        if not name.endswith("attn2"):
            continue
        made: dict[str, Tensor] = {}

        def keep(part: str, made: dict[str, Tensor] = made) -> object:
            def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
                made[part] = output

            return hook

        def read(module: nn.Module, _inputs: object, _output: object, made: dict[str, Tensor] = made) -> None:
            heads = int(module.heads)  # type: ignore[arg-type]
            query, key = (made.pop(part).unflatten(-1, (heads, -1)).transpose(1, 2) for part in ("to_q", "to_k"))
            maps.append((query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])).softmax(-1))

        hooks += [getattr(layer, part).register_forward_hook(keep(part)) for part in ("to_q", "to_k")]
        hooks.append(layer.register_forward_hook(read))
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()


def token_mask(
    maps: list[Float[Tensor, "batch _ _ tokens"]], tokens: Bool[Tensor, "batch tokens"], threshold: float
) -> Bool[Tensor, "batch 1 side side"]:
    """Where the tokens are: their mean map, scaled to 0..1 in each picture, is at least ``threshold``.

    Read from the layers of the second-coarsest size (16x16 in Stable Diffusion 1.x): the coarsest shows no place, finer ones are noisy.
    """
    sizes = sorted({layer.shape[2] for layer in maps})
    size = sizes[min(1, len(sizes) - 1)]
    mean = torch.stack([layer.mean(1) for layer in maps if layer.shape[2] == size]).mean(0)
    share = (mean * tokens[:, None]).sum(-1) / tokens.sum(-1, keepdim=True)
    low, high = share.amin(1, keepdim=True), share.amax(1, keepdim=True)
    scaled = (share - low) / (high - low).clamp(min=1e-12)
    side = math.isqrt(size)
    return (scaled >= threshold).view(-1, 1, side, side)


def resized(mask: Bool[Tensor, "batch 1 side side"], side: int) -> Float[Tensor, "batch 1 side2 side2"]:
    """A mask of another size, as 0 and 1; where it shrinks, a pixel is in if any part of it was, so that no mask vanishes."""
    values = mask.float()
    return F.adaptive_max_pool2d(values, side) if side < mask.shape[-1] else F.interpolate(values, size=(side, side), mode="nearest")
