"""What families do alike with the networks of a diffusers pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from ..._util.errors import InputError

if TYPE_CHECKING:
    from ..base import DiffusionModel

#: Configuration of the autoencoder that Stable Diffusion and its successors share, but for sizes and scale.
AUTOENCODER: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
#: Configuration of OpenAI's CLIP ViT-L/14 text encoder.
CLIP_L: dict[str, Any] = {
    "_class_name": "CLIPTextModel",
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
    "hidden_act": "quick_gelu",
    "vocab_size": 49408,
    "eos_token_id": 2,  # as published; transformers knows what it stands for
}
#: Noise levels that Stable Diffusion and its successors were trained on.
NOISE: dict[str, Any] = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}


class Taken(NamedTuple):
    """A pipeline taken apart: its networks, and everything else, which is needed to save it again."""

    networks: dict[str, nn.Module]
    parts: dict[str, Any]


def taken_apart(pipeline: Any, names: Sequence[str], optional: Sequence[str] = ()) -> Taken:  # noqa: ANN401
    """The networks of a pipeline, frozen and in evaluation mode, and its other parts.

    Raises:
        InputError: the scheduler, a network that is not optional or the tokenizer of a text encoder is
            missing, or a tokenizer fills up no prompts.
    """
    networks = {name: part for name in names if (part := getattr(pipeline, name, None)) is not None}
    # text_encoder_2 reads what tokenizer_2 gives
    read = [name.replace("text_encoder", "tokenizer") for name in networks if name.startswith("text_encoder")]
    needed = [*(name for name in names if name not in optional), *read, "scheduler"]
    if missing := [name for name in needed if getattr(pipeline, name, None) is None]:
        raise InputError(f"The pipeline has no {missing[0]}; load one that is complete.")
    if unpadded := [name for name in read if getattr(pipeline, name).pad_token_id is None]:
        raise InputError(f"The {unpadded[0]} of the pipeline names no padding token, which fills up prompts.")
    for module in networks.values():
        module.eval().requires_grad_(False)
    # tokenizers, scheduler and the like
    parts = {name: part for name, part in pipeline.components.items() if name not in networks}
    return Taken(networks, parts)


def side_of_latents(denoiser: nn.Module) -> int:
    """Side of the latents that a denoiser was trained on, as its settings name it.

    Raises:
        InputError: they name none.
    """
    config: Any = denoiser.config
    side = config.sample_size
    if not isinstance(side, int) or side < 1:
        kind = type(denoiser).__name__
        raise InputError(f"The sample_size of the {kind} is {str(side)[:20]}, not a whole number from 1.")
    return side


def side_of(networks: Mapping[str, nn.Module], sample_size: int) -> int:
    """Side of an image in pixels, for latents of a size."""
    vae: Any = networks["vae"]
    # each block of the autoencoder but the last halves the size
    return int(sample_size * 2 ** (len(vae.config.block_out_channels) - 1))


def decoded(vae: Any, latents: Tensor, *, upcast: bool = False) -> Tensor:  # noqa: ANN401  (of diffusers)
    """Images from scaled latents.

    Args:
        vae: the autoencoder.
        latents: scaled to about unit variance, as denoisers see them.
        upcast: decode in float32 where the autoencoder says that it overflows in float16.
    """
    config = vae.config
    # small autoencoders and those of older releases have no such entries
    if config.get("latents_mean") is not None and config.get("latents_std") is not None:
        # one value a channel: (channels,) -> (1, channels, 1, 1)
        mean = latents.new_tensor(config.latents_mean).view(1, -1, 1, 1)
        std = latents.new_tensor(config.latents_std).view(1, -1, 1, 1)
        own = latents * std / config.scaling_factor + mean
    else:
        own = latents / config.scaling_factor + (config.shift_factor or 0.0)
    if not (upcast and config.force_upcast and vae.dtype == torch.float16):
        result: Tensor = vae.decode(own).sample
        return result
    nn.Module.to(vae, torch.float32)
    try:
        with torch.autocast(own.device.type, enabled=False):
            result = vae.decode(own.float()).sample
    finally:
        nn.Module.to(vae, torch.float16)
    return result


def save_memory(model: DiffusionModel) -> None:
    """Gradient checkpointing; decoding one image at a time, and that in tiles."""
    denoiser: Any = model.denoiser
    denoiser.enable_gradient_checkpointing()
    for encoder in model.text:
        network: Any = encoder.module
        # the first releases of transformers 5 have the old name only
        new = getattr(network, "activation_checkpointing_enable", None)
        (new or network.gradient_checkpointing_enable)({"use_reentrant": False})
        # which it switches on: gradients of embeddings that nobody asked for
        network.disable_input_require_grads()
        for layer in network.modules():
            if isinstance(layer, GradientCheckpointingLayer):
                # transformers asks for it; what is inside of the layer, such as dropout, stays as it is
                layer.training = True
    vae: Any = model.components["vae"]
    vae.enable_slicing()
    vae.enable_tiling()
