"""Evaluations of earlier layouts, read as those of today."""

from __future__ import annotations

from typing import Any


def from_version_1(found: dict[str, Any]) -> dict[str, Any]:
    """The same evaluation in the layout of version 2.

    In version 1 a concept was its name alone, and denoiser rows were named after the UNet.
    """
    attacks = [{_renamed(key): value for key, value in row.items()} for row in found["attacks"]]
    cost = dict(found.get("cost", {}))
    if "cost" in cost:
        cost["cost"] = {_renamed(key): value for key, value in cost["cost"].items()}
    changed = {
        "schema_version": 2,
        "concept": {"name": found["concept"]},
        "attacks": attacks,
        "cost": cost,
    }
    return {**found, **changed}


def _renamed(key: str) -> str:
    return key.replace("unet_", "denoiser_")
