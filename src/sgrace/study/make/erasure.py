"""A model is erased; the samples that the eraser trained on are kept beside it."""

from __future__ import annotations

from pathlib import Path

from ..._util import registry
from ..._util.tensors import save_tensors_atomically
from ...api.erasing import erase
from ...erasers._shared.adversarial_samples import adversarial_samples
from ...evaluation.training_samples import features_of
from ...knowledge import Target
from ...testbeds.loading import LoadOptions
from ..cell import Cell
from .common import ERASURE, SAMPLES, Folders, base_of, concept_of, words_of


def make(cell: Cell, folder_of: Folders, out: Path, options: LoadOptions) -> None:
    """Erase a concept from the cell's model."""
    del folder_of
    config = cell.config
    base = base_of(cell, options)
    with adversarial_samples() as found:
        erasure = erase(
            base,
            [concept_of(cell)],
            method=config["eraser"],
            preset=config["preset"],
            settings=config["settings"],
            words=words_of(cell),
            seed=config["seed"],
        )
    erasure.save_pretrained(out / ERASURE)
    if found:
        targets = [Target(each.concept, each.words) for each in erasure.recipe.targets if each.words]
        kind = targets[0].concept.template_kind
        eraser = registry.load("erasers", config["eraser"]).preset(config["preset"], kind, config["settings"])
        features = features_of(base, found, eraser.config, targets)
        save_tensors_atomically(out / SAMPLES, {"features": features})
