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
from sgrace.knowledge import Knowledge
from sgrace.models import StableDiffusion

from ..conftest import tiny_pipeline
from ..test_attacks import LARGE, attack_of, scene_of
from ..test_attacks import SHORT as ATTACKS
from ..test_erasers import SHORT as ERASERS
from ..test_erasers import eraser_of, state

FILE = Path(__file__).parent / "records.json"
PRESETS = ("emoji", "published", "corrected")
PREDICTIONS = ("epsilon", "v_prediction")
NAMES = [
    *(f"erasers/{name}/{prediction}" for name in ERASERS for prediction in PREDICTIONS),
    *(f"erasers/{name}@{preset}/epsilon" for name in ERASERS for preset in PRESETS if preset in registry.load("erasers", name).presets),
    *(f"attacks/{name}/{prediction}" for name in ATTACKS for prediction in PREDICTIONS),
]
WORDS = Knowledge(source="test", related=("chapel",), unrelated=("dog", "tree", "boat", "house"), replacements=("house", "boat"))
N_PROJECTIONS = 4
#: Largest difference of a projection, as a part of the length of what is projected: sign steps magnify the rounding of another build.
TOLERANCE = 0.05


def record(name: str) -> dict[str, Any]:
    """What comes out of ``family/name/prediction``, as digests and projections."""
    family, plugin, prediction = name.split("/")  # a plugin may be NAME@PRESET
    model = StableDiffusion.from_pipeline(tiny_pipeline(prediction))
    model.set_progress_bar_config(disable=True)
    return (_eraser if family == "erasers" else _attack)(model, plugin)


def _eraser(model: StableDiffusion, plugin: str) -> dict[str, Any]:
    name, _, preset = plugin.partition("@")
    eraser = registry.load("erasers", name).preset(preset, "object", ERASERS[name]) if preset else eraser_of(name, ERASERS[name])
    before = state(model)
    after = state(eraser.erase(model, [Concept(name="church")], [WORDS], seed=1).apply(model))
    changes = {}
    for key, value in after.items():
        old = before.get(key)
        if old is None:
            changes[key] = value
        elif not torch.equal(old, value):
            changes[key] = value - old
    return {"tensors": _digest(changes), **_projections(changes)}


def _attack(model: StableDiffusion, name: str) -> dict[str, Any]:
    found = attack_of(name).run(scene_of(model, WORDS), LARGE, seed=3)
    spent = {key: value for key, value in found.record["spent"].items() if key != "seconds"}
    tensors = {**found.tensors, "images": found.pictures}
    attempts = [[a.candidate, a.survived, a.checks] for a in found.attempts]
    return {"attempts": attempts, "rows": list(spent.values()), "tensors": _digest(tensors), **_projections(tensors)}


def _digest(tensors: Mapping[str, Tensor]) -> str:
    total = hashlib.sha256()
    for key in sorted(tensors):
        total.update(tensors[key].detach().contiguous().numpy().tobytes())
    return total.hexdigest()


def _projections(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The length of all tensors together, and their products with random directions that depend on shape and order only."""
    total, square = torch.zeros(N_PROJECTIONS, dtype=torch.float64), 0.0
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
    if far > TOLERANCE * max(known["length"], 1e-12) or abs(known["length"] - found["length"]) > TOLERANCE * known["length"]:
        return f"the tensors differ by {far / max(known['length'], 1e-12):.1%} of their length"
    return ""


def load() -> dict[str, Any]:
    """All records."""
    records: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    return records


def save(records: dict[str, Any]) -> None:
    """Write all records in the order of their names."""
    FILE.write_text(json.dumps(dict(sorted(records.items())), indent=1) + "\n")
