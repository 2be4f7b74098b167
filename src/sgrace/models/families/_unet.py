"""The UNet with cross-attention, which several families share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..sites import AttentionLayer, DenoiserMap


def text_attention(unet: nn.Module) -> dict[str, AttentionLayer]:
    """The cross-attention layers of a UNet."""
    return {
        name: AttentionLayer(layer, layer.to_q, layer.to_k, layer.heads, layer.to_out[0].out_features)
        for name, layer in unet.named_modules()
        # diffusers' name of the attention that reads the text; attn1 reads the image itself
        if name.endswith("attn2")
    }


def prompt_embeds_of(inputs: tuple[Any, ...], named: Mapping[str, Any]) -> Tensor:
    """``encoder_hidden_states`` of a call of the UNet."""
    # by name or as the third argument: hooks see a call as it was made
    found: Tensor = named["encoder_hidden_states"] if "encoder_hidden_states" in named else inputs[2]
    return found


UNET = DenoiserMap(
    groups={
        "text_kv": lambda name: name.endswith(("attn2.to_k.weight", "attn2.to_v.weight")),
        "text_k": lambda name: name.endswith("attn2.to_k.weight"),
        "text_v": lambda name: name.endswith("attn2.to_v.weight"),
        "text_attention": lambda name: ".attn2." in name,
        "attention": lambda name: ".attn1." in name or ".attn2." in name,
        "self_attention": lambda name: ".attn1." in name,
        "not_text_attention": lambda name: ".attn2." not in name,
        "transformer": lambda name: ".attentions." in name,
        "all": lambda _name: True,
    },
    text_attention=text_attention,
    prompt_embeds_of=prompt_embeds_of,
)
