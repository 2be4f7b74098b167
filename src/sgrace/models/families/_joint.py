"""Transformers in which text and image tokens attend to each other, which several families share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..sites import AttentionLayer, DenoiserMap

#: The text's own projections in joint attention, as diffusers names them; blocks after the two streams are
#: joined have none.
TEXT = (".add_q_proj.", ".add_k_proj.", ".add_v_proj.", ".to_add_out.", ".norm_added_q.", ".norm_added_k.")


def reads_text(name: str) -> bool:
    """Whether a parameter belongs to the text's side of joint attention."""
    return any(part in name for part in TEXT)


def attends(name: str) -> bool:
    """Whether a parameter belongs to an attention layer."""
    return ".attn." in name or ".attn2." in name


def no_maps(_denoiser: nn.Module) -> dict[str, AttentionLayer]:
    """No layer reads the text alone: places and tokens share one softmax."""
    return {}


def prompt_embeds_of(inputs: tuple[Any, ...], named: Mapping[str, Any]) -> Tensor:
    """``encoder_hidden_states`` of a call of the transformer."""
    found: Tensor = named["encoder_hidden_states"] if "encoder_hidden_states" in named else inputs[1]
    return found


JOINT = DenoiserMap(
    groups={
        "text_kv": lambda name: name.endswith(("add_k_proj.weight", "add_v_proj.weight")),
        "text_k": lambda name: name.endswith("add_k_proj.weight"),
        "text_v": lambda name: name.endswith("add_v_proj.weight"),
        "text_attention": reads_text,
        "attention": attends,
        "self_attention": lambda name: attends(name) and not reads_text(name),
        "not_text_attention": lambda name: not reads_text(name),
        "transformer": lambda name: "transformer_blocks." in name,
        # the one layer through which prompt embeddings enter
        "inlet": lambda name: name.startswith("context_embedder."),
        "all": lambda _name: True,
    },
    text_attention=no_maps,
    prompt_embeds_of=prompt_embeds_of,
)
