"""What methods and attacks may need of a model, and why one without it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import torch


class Need(StrEnum):
    """What a method or an attack asks of a model."""

    GRADIENTS = "gradients"
    SHARED_TEXT_KV = "key and value matrices that read the same text"
    ATTENTION_MAPS = "attention maps"
    TEXT_ENCODER = "a text encoder that can be trained"
    SAMPLING = "control of the sampling"
    GENERATED_DATA = "images that the model generates itself"
    DDIM = "steps of DDIM"
    INLET = "one layer through which prompt embeddings enter"


#: Why a model is refused that lacks something, what it can never have before what a precision takes away.
REFUSALS = {
    Need.SHARED_TEXT_KV: "its closed form needs key and value matrices that all read the same prompt "
    "embeddings",
    Need.ATTENTION_MAPS: "its attention maps need layers in which the image attends to the text alone",
    Need.SAMPLING: "it steers classifier-free guidance, which the model has learned to do without",
    Need.INLET: "it edits the one layer through which prompt embeddings enter, and a UNet has several",
    Need.DDIM: "it takes steps of DDIM, which flow matching does not have",
    Need.GRADIENTS: "its gradients vanish in float16; use --dtype bfloat16 or --dtype float32",
}

#: What a model lacks in a precision. Losses are means over all latents or text states: their gradients are
#: near the smallest number of float16, 6e-8, or below.
LACKS_IN: Mapping[torch.dtype, frozenset[Need]] = {
    torch.float32: frozenset(),
    torch.bfloat16: frozenset(),
    torch.float16: frozenset({Need.GRADIENTS}),
}


def refusal(needs: frozenset[Need], lacks: frozenset[Need]) -> str:
    """Why something with these needs cannot run on a model that lacks these; empty where it can."""
    return next((why for need, why in REFUSALS.items() if need in needs & lacks), "")
