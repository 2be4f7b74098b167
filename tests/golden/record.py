"""Records of erasers and attacks on the tiny pipelines."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sgrace._util import registry
from sgrace.concept import Concept
from sgrace.knowledge import Knowledge, Target
from sgrace.models import DiffusionModel
from sgrace.models.families.stable_diffusion import StableDiffusion

from ..attacks.cases import CASES as ATTACKS
from ..attacks.scenes import attack_of, scene_of
from ..conftest import tiny_pipeline
from ..erasers.cases import CASES as ERASERS

FILE = Path(__file__).parent / "records.json"
PRESETS = ("emoji", "published", "corrected", "replacement")
PREDICTIONS = ("epsilon", "v_prediction")


def names() -> list[str]:
    """``erasers/NAME[@PRESET]/PREDICTION`` and ``attacks/NAME/PREDICTION`` of every plug-in."""
    found = [f"erasers/{name}/{prediction}" for name in ERASERS for prediction in PREDICTIONS]
    for name in ERASERS:
        known = registry.load("erasers", name).presets
        found += [f"erasers/{name}@{preset}/epsilon" for preset in PRESETS if preset in known]
    return found + [f"attacks/{name}/{prediction}" for name in ATTACKS for prediction in PREDICTIONS]


WORDS = Knowledge(
    source="test",
    related=("chapel",),
    unrelated=("dog", "tree", "boat", "house"),
    replacements=("house", "boat"),
)
N_PROJECTIONS = 4
#: Largest difference of a projection, as a part of the length of what is projected: sign steps magnify the
#: rounding of another build.
TOLERANCE = 0.15


def record(name: str) -> dict[str, Any]:
    """What comes out of ``family/name/prediction``, as digests and projections."""
    family, plugin, prediction = name.split("/")  # a plugin may be NAME@PRESET
    model = StableDiffusion.from_pipeline(tiny_pipeline(prediction))
    model.set_progress_bar_config(disable=True)
    return (_eraser if family == "erasers" else _attack)(model, plugin)


def state(model: DiffusionModel) -> dict[str, Tensor]:
    """Every tensor that decides what a model gives, by component and name."""
    found = {"guidance": {}} if model.guidance is None else {"guidance": dict(model.guidance.tensors)}
    parts = {**{name: module.state_dict() for name, module in model.components.items()}, **found}
    return {
        f"{part}.{name}": value.clone() for part, values in parts.items() for name, value in values.items()
    }


def _eraser(model: DiffusionModel, plugin: str) -> dict[str, Any]:
    name, _, preset = plugin.partition("@")
    settings = dict(ERASERS[name].short)
    if preset:
        settings.pop("site", None)  # a preset keeps its own
    eraser = registry.load("erasers", name).preset(preset or None, "object", settings)
    before = state(model)
    after = state(eraser.erase(model, [Target(Concept(name="church"), WORDS)], seed=1).apply(model))
    changes = {}
    for key, value in after.items():
        old = before.get(key)
        if old is None:
            changes[key] = value
        elif not torch.equal(old, value):
            changes[key] = value - old
    return {"tensors": _digest(changes), **_projections(changes)}


def _attack(model: DiffusionModel, name: str) -> dict[str, Any]:
    found = attack_of(name).run(scene_of(model, WORDS), seed=3)
    spent = found.record.spent
    rows = [spent.denoiser_rows, spent.text_encoder_rows]
    tensors = {**found.tensors, "images": found.images}
    attempts = [[a.candidate, a.survived, a.checks] for a in found.attempts]
    return {"attempts": attempts, "rows": rows, "tensors": _digest(tensors), **_projections(tensors)}


def _digest(tensors: Mapping[str, Tensor]) -> str:
    total = hashlib.sha256()
    for key in sorted(tensors):
        total.update(tensors[key].detach().contiguous().numpy().tobytes())
    return total.hexdigest()


def _projections(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The length of all tensors together, and their products with random directions.

    The directions depend on shape and order only.
    """
    total = torch.zeros(N_PROJECTIONS, dtype=torch.float64)
    square = 0.0
    for place, key in enumerate(sorted(tensors)):
        flat = tensors[key].detach().double().flatten()
        generator = torch.Generator().manual_seed(zlib.crc32(f"{place}/{len(flat)}".encode()))
        total += torch.randn(N_PROJECTIONS, len(flat), generator=generator, dtype=torch.float64) @ flat
        square += flat.square().sum().item()
    return {"length": square**0.5, "projections": total.tolist()}


def difference(known: dict[str, Any], found: dict[str, Any]) -> str:
    """What differs by more than rounding; empty if nothing does."""
    for key in ("attempts", "rows"):
        if known.get(key) != found.get(key):
            return f"{key} differ: {found.get(key)} in place of {known.get(key)}"
    far = max(abs(a - b) for a, b in zip(known["projections"], found["projections"], strict=True))
    if (
        far > TOLERANCE * max(known["length"], 1e-12)
        or abs(known["length"] - found["length"]) > TOLERANCE * known["length"]
    ):
        return f"the tensors differ by {far / max(known['length'], 1e-12):.1%} of their length"
    return ""


def load() -> dict[str, Any]:
    """All records."""
    records: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    return records


def save(records: dict[str, Any]) -> None:
    """Write all records in the order of their names."""
    FILE.write_text(json.dumps(dict(sorted(records.items())), indent=1) + "\n")
