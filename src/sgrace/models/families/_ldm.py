"""The original layout of Stable Diffusion: UNet, autoencoder and text encoders by their first names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from diffusers import AutoencoderKL
from torch import nn

from ..original import Layout, Original, gathered, prefixed, renamed

#: Inside a residual block of a UNet: original name -> name of diffusers.
RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
UNET = {
    "input_blocks.0.0": "conv_in",
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
#: Inside a layer of a text encoder of OpenCLIP, in which queries, keys and values are one matrix.
OPEN_CLIP = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
#: Inside the attention of an autoencoder, whose matrices were convolutions.
VAE_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}


#: Before the names of an autoencoder in one file with a denoiser.
AUTOENCODER = "first_stage_model."


def denoiser_and_autoencoder(networks: Mapping[str, nn.Module]) -> dict[str, Layout]:
    """The layouts of a UNet and of an autoencoder."""
    unet = prefixed(unet_layout(networks["unet"]), "model.diffusion_model.")
    return {"unet": unet, **autoencoder(networks)}


def autoencoder(networks: Mapping[str, nn.Module]) -> dict[str, Layout]:
    """The layout of an autoencoder of the published kind; small ones have none."""
    vae = networks["vae"]
    return {"vae": prefixed(vae_layout(vae), AUTOENCODER)} if isinstance(vae, AutoencoderKL) else {}


def unet_layout(unet: Any) -> dict[str, Original]:  # noqa: ANN401  (of diffusers)
    """The layout of a UNet; all blocks are numbered through, down and up apart."""
    names = list(unet.state_dict())
    layers = unet.config.layers_per_block
    layout = gathered(names, UNET)
    for original, own in _places(len(unet.config.block_out_channels), layers).items():
        if ".resnets." in own:
            layout |= gathered(names, RESNET, f"{original}.", f"{own}.")
        else:
            inside = [name for name in names if name.startswith(f"{own}.")]
            layout |= {original + name.removeprefix(own): Original((name,)) for name in inside}
    for block, kind in enumerate(unet.config.up_block_types):
        # behind the block's last residual block, and its attention where it has any
        place = f"output_blocks.{(block + 1) * (layers + 1) - 1}.{2 if 'CrossAttn' in kind else 1}.conv"
        layout |= gathered(names, {place: f"up_blocks.{block}.upsamplers.0.conv"})
    return layout


def _places(blocks: int, layers: int) -> dict[str, str]:
    """Blocks of a UNet: original name -> name of diffusers; some of them need not be there."""
    middle = ("mid_block.resnets.0", "mid_block.attentions.0", "mid_block.resnets.1")
    places = {f"middle_block.{i}": own for i, own in enumerate(middle)}
    for block in range(blocks):
        # the first input block is a convolution; behind each block stands one that halves the size
        first = 1 + block * (layers + 1)
        for layer in range(layers):
            places[f"input_blocks.{first + layer}.0"] = f"down_blocks.{block}.resnets.{layer}"
            places[f"input_blocks.{first + layer}.1"] = f"down_blocks.{block}.attentions.{layer}"
        places[f"input_blocks.{first + layers}.0.op"] = f"down_blocks.{block}.downsamplers.0.conv"
        for layer in range(layers + 1):
            at = block * (layers + 1) + layer
            places[f"output_blocks.{at}.0"] = f"up_blocks.{block}.resnets.{layer}"
            places[f"output_blocks.{at}.1"] = f"up_blocks.{block}.attentions.{layer}"
    return places


def vae_layout(vae: Any) -> dict[str, Original]:  # noqa: ANN401  (of diffusers)
    """The layout of an autoencoder; its decoder counts the blocks from the other end."""
    last = len(vae.config.block_out_channels) - 1
    layout = {}
    for name, value in vae.state_dict().items():
        new = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
        new = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", new)
        new = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{last - int(m[1])}.block", new)
        new = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{last - int(m[1])}.upsample", new)
        new = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", new)
        new = new.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        for original, own in VAE_ATTENTION.items():
            new = new.replace(f"mid_block.attentions.0.{own}.", f"mid.attn_1.{original}.")
        is_matrix = "mid.attn_1" in new and value.ndim == 2
        layout[new] = Original((name,), "convolution" if is_matrix else "")
    return layout


def clip_layout(encoder: nn.Module) -> dict[str, Original]:
    """The layout of a text encoder of OpenAI: transformers has its names."""
    return renamed(_names(encoder), lambda name: f"transformer.text_model.{name.removeprefix('text_model.')}")


def open_clip_layout(encoder: Any) -> dict[str, Original]:  # noqa: ANN401  (of transformers)
    """The layout of a text encoder of OpenCLIP."""
    names = _names(encoder)
    own = "text_model." if "text_model.final_layer_norm.weight" in names else ""
    layout = {
        "token_embedding.weight": Original((f"{own}embeddings.token_embedding.weight",)),
        "positional_embedding": Original((f"{own}embeddings.position_embedding.weight",)),
        **gathered(names, {"ln_final": "final_layer_norm"}, own=own),
    }
    if "text_projection.weight" in names:
        layout["text_projection"] = Original(("text_projection.weight",), "transposed")
    for i in range(encoder.config.num_hidden_layers):
        layer = f"{own}encoder.layers.{i}."
        start = f"transformer.resblocks.{i}."
        layout |= gathered(names, OPEN_CLIP, start, layer)
        for leaf in ("weight", "bias"):
            joint = tuple(f"{layer}self_attn.{letter}_proj.{leaf}" for letter in "qkv")
            layout[f"{start}attn.in_proj_{leaf}"] = Original(joint)
    return prefixed(layout, "model.")


def _names(network: nn.Module) -> list[str]:
    """Names of the parameters; buffers, such as positions, are in no later file."""
    return [name for name, _ in network.named_parameters()]
