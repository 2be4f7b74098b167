"""Saved bases of every family, with erasures made by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

import sgrace
from sgrace.models import DiffusionModel

from ..erasure.made import erasure, moved
from ..families import PIPELINES
from ..models.made import images


class Safe(NamedTuple):
    """An erasure of some components on its base, both saved, and the model without the concept."""

    base: Path
    folder: Path
    model: DiffusionModel
    erasure: sgrace.Erasure


Maker = Callable[..., Safe]


def loaded(source: Path, **options: Any) -> DiffusionModel:
    return small(sgrace.load_model(source, device="cpu", **options))


def same_images(one: DiffusionModel, other: DiffusionModel) -> None:
    """Both draw the same, but for the order in which a sum is taken."""
    torch.testing.assert_close(images(one), images(other), atol=1e-5, rtol=0)


def small(model: DiffusionModel) -> DiffusionModel:
    """The model, which draws small images where neither its class nor its networks name a size."""
    model.set_progress_bar_config(disable=True)
    if hasattr(model, "sample_size"):
        model.sample_size = 4
    return model


@pytest.fixture(scope="session")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """Makes the erasure of a family and some of its components, each once."""
    root = tmp_path_factory.mktemp("export")
    known: dict[tuple[str, ...], Safe] = {}

    def make(family: str, *components: str) -> Safe:
        key = (family, *components)
        base = root / family
        if not base.exists():
            PIPELINES[family]().save_pretrained(base)
        if key not in known:
            model = loaded(base)
            names = components or ("text_encoder", model.denoiser_component)
            tensors = {}
            for name in names:
                site = model.sites.names("text_kv") if name == model.denoiser_component else None
                tensors[name] = moved(model, name, site)
            made = erasure(model, tensors)
            made.save_pretrained(root / "-".join(key) / "safe")
            known[key] = Safe(base, root / "-".join(key) / "safe", made.apply(model), made)
        return known[key]

    return make
