"""Networks for features of images, and the distance between two sets of images on them, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .._util.errors import InputError
from .._util.images import to_arrays
from ..detectors.clip_zero_shot import HubClip
from ..metrics import concept_space, fidelity, jackknife
from ..metrics.extractor import Extractor
from ..models import quiet_libraries
from .schema import Fidelity

BATCH = 32
NEIGHBOURS = 5  # of precision, recall, density and coverage, as their papers have it


def from_hub(source: str) -> Extractor:
    """A CLIP, or any vision model of transformers (DINOv2, ViT, ConvNeXt, ResNet, models of timm).

    Args:
        source: folder or hub id.

    Raises:
        InputError: there is no such model, or it gives no features.
    """
    from transformers import AutoConfig, AutoImageProcessor, AutoModel  # noqa: PLC0415  (only if it is asked for)

    try:
        with quiet_libraries():
            if AutoConfig.from_pretrained(source).model_type == "clip":
                clip = HubClip(source)
                return Extractor(source, clip.images, clip.texts)
            model = AutoModel.from_pretrained(source, use_safetensors=True).eval()
            processor = AutoImageProcessor.from_pretrained(source)
    except (OSError, ValueError, ImportError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"Cannot load {source!r} as an extractor of features ({reason}).") from error

    @torch.no_grad()
    def features(images: Tensor) -> Tensor:
        parts = [
            model(**processor(list(to_arrays(chunk)), return_tensors="pt")) for chunk in images.split(BATCH)
        ]
        if getattr(parts[0], "pooler_output", None) is None:
            raise InputError(f"{source} has no pooled output to take features from.")
        return torch.cat([part.pooler_output.flatten(1) for part in parts])

    return Extractor(source, features)


def fidelity_of(prompts: Sequence[str], before: Tensor, after: Tensor, extractor: Extractor) -> Fidelity:
    """Distances between the images of two models from equal prompts and noise, with jackknife intervals.

    Args:
        prompts: one for each image.
        before: images ``(n, 3, height, width)`` in -1..1 of the first model.
        after: those of the second.
        extractor: where the features come from.
    """
    old = extractor.images(before)
    new = extractor.images(after)
    statistics: dict[str, Callable[[Tensor], float]] = {
        "fid": lambda rows: fidelity.fid(old[rows], new[rows]),
        "kid": lambda rows: fidelity.kid(old[rows], new[rows]),
        "cmmd": lambda rows: fidelity.cmmd(old[rows], new[rows]),
    }
    if extractor.layers is not None:
        distances = fidelity.lpips(extractor.layers(before), extractor.layers(after))
        statistics["lpips"] = lambda rows: distances[rows].mean().item()
    if extractor.texts is not None:
        texts = extractor.texts(list(prompts))
        statistics["clip_score_before"] = lambda rows: fidelity.clip_score(old[rows], texts[rows])
        statistics["clip_score_after"] = lambda rows: fidelity.clip_score(new[rows], texts[rows])
    n = len(before)
    values = {name: statistic(torch.arange(n)) for name, statistic in statistics.items()}
    intervals = {name: jackknife(statistic, n) for name, statistic in statistics.items()} if n > 2 else {}
    if n > NEIGHBOURS:
        values["precision"], values["recall"] = fidelity.precision_recall(old, new, NEIGHBOURS)
        values["density"] = concept_space.density(old, new, NEIGHBOURS)
        values["coverage"] = concept_space.coverage(old, new, NEIGHBOURS)
    digits = {"fid": 5, "kid": 7, "lpips": 5, "clip_score_before": 2, "clip_score_after": 2}
    rounded = {name: round(value, digits.get(name, 4)) for name, value in values.items()}
    bounds = {}
    for name, (low, high) in intervals.items():
        bounds[name] = (round(low, digits.get(name, 5)), round(high, digits.get(name, 5)))
    return Fidelity(extractor=extractor.name, n=n, intervals=bounds, **rounded)
