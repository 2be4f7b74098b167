"""What decides a result: two runs with equal requests give equal results, so one may go on with the other's pieces."""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

import torch

from ..attacks import Scene
from ..models import StableDiffusion


class Fingerprint(NamedTuple):
    """What decides a model's images.

    Attributes:
        weights: SHA-256 of all weights, and of the settings and tensors of its guidance.
        settings: SHA-256 of everything else: sizes, scheduler, prediction type, tokenizer and precision.
    """

    weights: str
    settings: str


def fingerprint(model: StableDiffusion) -> Fingerprint:
    """Hashes of a model as it is now, with everything that was erased."""
    return Fingerprint(weights_sha256(model), settings_sha256(model))


def weights_sha256(model: StableDiffusion) -> str:
    """SHA-256 of the weights of text encoder, denoiser and autoencoder, and of the guidance."""
    total = hashlib.sha256()
    parts = [part.state_dict() for part in (model.text_encoder, model.pipeline.unet, model.pipeline.vae)]
    if model.guidance is not None:
        total.update(json.dumps(model.guidance.settings).encode())
        parts.append(model.guidance.tensors)
    for part in parts:
        for name, value in part.items():
            total.update(name.encode())
            total.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def settings_sha256(model: StableDiffusion) -> str:
    """SHA-256 of the settings of all parts, of the tokenizer and of the precision."""
    pipeline = model.pipeline
    settings = {
        "text_encoder": _settings(model.text_encoder.config.to_dict()),
        "denoiser": _settings(dict(pipeline.unet.config)),
        "vae": _settings(dict(pipeline.vae.config)),
        "scheduler": [type(pipeline.scheduler).__name__, _settings(dict(pipeline.scheduler.config))],
        "tokenizer": [pipeline.tokenizer.get_vocab(), str(pipeline.tokenizer.special_tokens_map)],
        "dtype": str(next(pipeline.unet.parameters()).dtype),
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """Without what says where a part came from and who wrote it: that decides no image."""
    return {key: value for key, value in config.items() if not key.startswith("_") and "version" not in key}


def request_of(scene: Scene, **more: Any) -> dict[str, Any]:  # noqa: ANN401  (ready for JSON)
    """Everything that decides what attacks on a scene find.

    Args:
        scene: what is attacked.
        more: what else the run depends on: effort, limits, settings, seed.
    """
    return {
        "target": fingerprint(scene.target)._asdict(),
        "base": None if scene.original is None else fingerprint(scene.original)._asdict(),
        "concept": scene.concept.model_dump(),
        "words": scene.knowledge.model_dump(mode="json"),
        "prompts": [[prompt.text, prompt.seed, prompt.guidance_scale] for prompt in scene.prompts],
        "protocol": scene.protocol.name,
        "num_inference_steps": scene.num_inference_steps,
        "guidance_scale": scene.guidance_scale,
        "detector": scene.detector.identity.as_dict(),
        **more,
    }
