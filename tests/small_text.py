"""Small text encoders of every kind with random weights, and tokenizers that belong to them."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    CLIPTextConfig,
    CLIPTokenizer,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from .conftest import WORDS, tiny_tokenizer

#: Text positions of the small CLIP encoders, of T5 and of the language model, whose template takes 19.
CLIP_LENGTH = 20
T5_LENGTH = 16
LLM_LENGTH = 36
#: Width of T5, and of what joint attention reads.
T5_WIDTH = 32
LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def told_apart(encoder: Any) -> Any:
    """The encoder with token embeddings that are as far apart as learned ones."""
    with torch.no_grad():
        encoder.get_input_embeddings().weight.mul_(30)
    return encoder


def clip(kind: Any, tokenizer: CLIPTokenizer, width: int) -> Any:
    """A small CLIP text encoder."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=12,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=CLIP_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return told_apart(kind(config))


def padded_otherwise() -> CLIPTokenizer:
    """The tokenizer of encoders that pad with an ordinary token, and not with the end token."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"pad_token": ","})
    return tokenizer


def t5_tokenizer() -> T5Tokenizer:
    """Whole words and letters; no start token."""
    words = [(f"▁{word}", -1.0) for word in WORDS]
    letters = [(letter, -5.0) for letter in LETTERS]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0), *words, *letters]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=T5_LENGTH)


def t5(tokenizer: T5Tokenizer) -> Any:
    """A small T5 encoder."""
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=T5_WIDTH,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return told_apart(T5EncoderModel(config))


def llm_tokenizer() -> Qwen2Tokenizer:
    """Letters of bytes, whole words, and a chat template."""
    vocabulary = [*LETTERS, ",", "Ġ", "Ċ"]
    merges: list[Any] = []  # pairs, which transformers reads and does not name
    for word in WORDS:
        for start in ("", "Ġ"):
            pieces = list(start + word)
            while len(pieces) > 1:
                merges.append((pieces[0], pieces[1]))
                pieces = ["".join(pieces[:2]), *pieces[2:]]
                vocabulary.append(pieces[0])
    vocabulary += ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Qwen2Tokenizer(
        vocab={piece: place for place, piece in enumerate(dict.fromkeys(vocabulary))},
        merges=list(dict.fromkeys(merges)),
        eos_token="<|im_end|>",  # noqa: S106  (no password)
        additional_special_tokens=["<|im_start|>"],
        model_max_length=LLM_LENGTH,
    )
    tokenizer.chat_template = CHAT
    return tokenizer


def llm(tokenizer: Qwen2Tokenizer) -> Any:
    """A small language model."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    )
    return told_apart(Qwen3Model(config))
