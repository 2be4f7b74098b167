"""The weights of a pipeline by the names of the code that trained them, as files of one piece have them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

#: Inside a residual block of a UNet: name of diffusers -> original name.
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
#: Inside the attention of an autoencoder, whose matrices were convolutions.
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def unet_names(config: Any) -> dict[str, str]:
    """Parts of a UNet by the names of diffusers, with their original names."""
    names = dict(UNET)
    n = len(config.block_out_channels)
    layers = config.layers_per_block
    at = 1
    for block in range(n):
        for layer in range(layers):
            names[f"down_blocks.{block}.resnets.{layer}"] = f"input_blocks.{at}.0"
            names[f"down_blocks.{block}.attentions.{layer}"] = f"input_blocks.{at}.1"
            at += 1
        names[f"down_blocks.{block}.downsamplers.0.conv"] = f"input_blocks.{at}.0.op"
        at += 1
    at = 0
    for block, kind in enumerate(config.up_block_types):
        for layer in range(layers + 1):
            names[f"up_blocks.{block}.resnets.{layer}"] = f"output_blocks.{at}.0"
            names[f"up_blocks.{block}.attentions.{layer}"] = f"output_blocks.{at}.1"
            at += 1
        place = 2 if "CrossAttn" in kind else 1
        names[f"up_blocks.{block}.upsamplers.0.conv"] = f"output_blocks.{at - 1}.{place}.conv"
    return names


def of_unet(unet: Any) -> Iterator[tuple[str, Tensor]]:
    names = unet_names(unet.config)
    for name, value in unet.state_dict().items():
        part = max((known for known in names if name.startswith(f"{known}.")), key=len)
        rest = name.removeprefix(f"{part}.")
        if ".resnets." in part:
            inner, _, leaf = rest.rpartition(".")
            rest = f"{RESNET[inner]}.{leaf}"
        yield f"model.diffusion_model.{names[part]}.{rest}", value


def of_autoencoder(vae: Any) -> Iterator[tuple[str, Tensor]]:
    n = len(vae.config.block_out_channels)
    for name, value in vae.state_dict().items():
        new = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
        new = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", new)
        new = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{n - 1 - int(m[1])}.block", new)
        new = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{n - 1 - int(m[1])}.upsample", new)
        new = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", new)
        new = new.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        if "mid_block.attentions.0." in new:
            inner, _, leaf = new.partition("mid_block.attentions.0.")[2].rpartition(".")
            new = f"{new.partition('mid_block')[0]}mid.attn_1.{VAE_ATTENTION[inner]}.{leaf}"
        is_matrix = "mid.attn_1" in new and value.ndim == 2
        yield f"first_stage_model.{new}", value[:, :, None, None] if is_matrix else value


def of_clip(encoder: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """A text encoder of OpenAI: the names are those of transformers."""
    for name, value in encoder.state_dict().items():
        yield f"{prefix}text_model.{name.removeprefix('text_model.')}", value


def of_open_clip(encoder: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """A text encoder of OpenCLIP: queries, keys and values are one matrix."""
    state = {name.removeprefix("text_model."): value for name, value in encoder.state_dict().items()}
    yield f"{prefix}token_embedding.weight", state["embeddings.token_embedding.weight"]
    yield f"{prefix}positional_embedding", state["embeddings.position_embedding.weight"]
    if "text_projection.weight" in state:
        yield f"{prefix}text_projection", state["text_projection.weight"].T
    for leaf in ("weight", "bias"):
        yield f"{prefix}ln_final.{leaf}", state[f"final_layer_norm.{leaf}"]
        for i in range(encoder.config.num_hidden_layers):
            own, other = f"encoder.layers.{i}.", f"{prefix}transformer.resblocks.{i}."
            joint = [state[f"{own}self_attn.{letter}_proj.{leaf}"] for letter in "qkv"]
            yield f"{other}attn.in_proj_{leaf}", torch.cat(joint)
            for name, original in OPEN_CLIP.items():
                yield f"{other}{original}.{leaf}", state[f"{own}{name}.{leaf}"]


def original_layout(pipeline: Any) -> Mapping[str, Tensor]:
    """The weights of a pipeline of Stable Diffusion 1 or XL."""
    state = dict(of_unet(pipeline.unet)) | dict(of_autoencoder(pipeline.vae))
    if not hasattr(pipeline, "text_encoder_2"):
        state |= of_clip(pipeline.text_encoder, "cond_stage_model.transformer.")
    else:
        state |= of_clip(pipeline.text_encoder, "conditioner.embedders.0.transformer.")
        state |= of_open_clip(pipeline.text_encoder_2, "conditioner.embedders.1.model.")
    return {name: value.contiguous() for name, value in state.items()}
