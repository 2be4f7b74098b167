"""What decides a result. Two runs with equal requests give equal results, so they can share their files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from .._util.hashing import sha256_of_json, sha256_of_tensors
from ..attacks import Scene
from ..models import DiffusionModel

#: Settings that decide no image; the precision is that of the loaded model.
UNIMPORTANT = {"architectures", "transformers_version", "dtype", "torch_dtype"}


class Fingerprint(NamedTuple):
    """What decides a model's images.

    Attributes:
        weights: SHA-256 of all weights, and of the settings and tensors of its guidance.
        settings: SHA-256 of everything else: sizes, scheduler, prediction type, tokenizer and precision.
    """

    weights: str
    settings: str


def fingerprint(model: DiffusionModel) -> Fingerprint:
    """Hashes of a model as it is now, with everything that was erased."""
    return Fingerprint(weights_sha256(model), settings_sha256(model))


def weights_sha256(model: DiffusionModel) -> str:
    """SHA-256 of the weights of all networks, and of the guidance."""
    parts: list[Mapping[str, Tensor]] = [network.state_dict() for network in model.components.values()]
    if model.guidance is None:
        return sha256_of_tensors(*parts)
    return sha256_of_tensors(*parts, model.guidance.tensors, header=json.dumps(model.guidance.settings))


def settings_sha256(model: DiffusionModel) -> str:
    """SHA-256 of the settings of all networks and the scheduler, the vocabularies and the precision."""
    every = {**model.components, **model.parts}
    settings = {
        "family": model.family,
        "dtype": str(model.dtype),
        "parts": {name: [type(part).__name__, _settings(part)] for name, part in every.items()},
        "vocabularies": {encoder.name: encoder.tokenizer.get_vocab() for encoder in model.text},
    }
    return sha256_of_json(json.loads(json.dumps(settings, default=str)))


def _settings(part: Any) -> dict[str, Any]:  # noqa: ANN401  (parts of a pipeline share no base)
    """Settings of a part, without what says where it came from and who wrote it: that decides no image."""
    config = getattr(part, "config", None) or {}
    found = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    return {key: value for key, value in found.items() if not key.startswith("_") and key not in UNIMPORTANT}


def request_of(scene: Scene, **more: Any) -> dict[str, Any]:  # noqa: ANN401  (ready for JSON)
    """Everything that decides what attacks on a scene find.

    Args:
        scene: what is attacked.
        more: what else the run depends on: effort, limits, settings, seed.
    """
    return {
        "target": fingerprint(scene.target)._asdict(),
        "base": None if scene.original is None else fingerprint(scene.original)._asdict(),
        "device": scene.target.device.type,
        "concept": scene.concept.model_dump(),
        "words": scene.words.model_dump(mode="json", exclude={"source"}),
        "prompts": [[prompt.text, prompt.seed, prompt.guidance_scale] for prompt in scene.prompts],
        "protocol": scene.protocol.name,
        "num_inference_steps": scene.num_inference_steps,
        "guidance_scale": scene.guidance_scale,
        "detector": scene.detector.identity.as_dict(),
        **more,
    }
