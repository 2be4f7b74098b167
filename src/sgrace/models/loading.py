"""Pipelines and their parts from folders and the hub, with one clear sentence for whatever cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel

from .._util.errors import InputError


def load_pipeline(source: str | Path, revision: str | None, dtype: torch.dtype) -> StableDiffusionPipeline:
    """A diffusers folder or a hub id.

    Raises:
        InputError: it is not a readable Stable Diffusion pipeline.
    """
    path = Path(source)
    if path.exists():
        index = path / "model_index.json"
        if not index.is_file():
            raise InputError(f"{path} is not a diffusers pipeline folder: it has no model_index.json.")
        try:
            family = json.loads(index.read_text()).get("_class_name")
        except (ValueError, AttributeError) as error:
            raise InputError(f"{index} is not valid JSON.") from error
        if family != "StableDiffusionPipeline":
            raise InputError(f"{path} holds a {family}; only StableDiffusionPipeline (SD 1.x and 2.x) is supported.")
    try:
        return StableDiffusionPipeline.from_pretrained(
            source, revision=revision, dtype=dtype, use_safetensors=True, safety_checker=None, requires_safety_checker=False
        )
    except Exception as error:  # diffusers, safetensors and the hub client each raise their own kinds
        raise InputError(f"Cannot load {str(source)!r} as a Stable Diffusion pipeline ({_reason(error)}).") from error


def load_unet(folder: Path, width: int) -> UNet2DConditionModel:
    """A denoiser that reads text states of a width, frozen.

    Raises:
        InputError: the folder is none, or reads another width.
    """
    try:
        unet = UNet2DConditionModel.from_pretrained(folder, use_safetensors=True).eval().requires_grad_(False)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"Cannot load a part of the model ({_reason(error)}).") from error
    if unet.config.cross_attention_dim != width:
        raise InputError(f"This UNet is {unet.config.cross_attention_dim} wide, the model needs {width}.")
    return unet


def load_text_encoder(folder: Path, width: int) -> CLIPTextModel:
    """A text encoder with text states of a width, frozen, in fp32.

    Raises:
        InputError: the folder is none, or its states have another width.
    """
    try:
        encoder = CLIPTextModel.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"Cannot load a part of the model ({_reason(error)}).") from error
    if encoder.config.hidden_size != width:
        raise InputError(f"This text encoder is {encoder.config.hidden_size} wide, the model needs {width}.")
    return encoder


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
