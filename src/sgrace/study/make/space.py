"""Where the samples that an eraser trained on lie in the space of the concept."""

from __future__ import annotations

from pathlib import Path

from ..._util.files import write_json
from ..._util.tensors import read_tensors
from ...evaluation.training_samples import Space, curve_of
from ...testbeds.loading import LoadOptions
from ..cell import Cell
from ..inputs import testbed_of
from .common import SAMPLES, Folders, base_of, concept_of, words_of

CURVES = "curves.json"
#: Prompts of each group that mark a concept's space.
N_SPACE = 200
#: Name of an eraser's samples.
TRAINED = "trained on"


def make(cell: Cell, folder_of: Folders, out: Path, options: LoadOptions) -> None:
    """Measure the samples, or the ceiling and the floor."""
    testbed = testbed_of(cell.config["model"])
    words = words_of(cell) or (testbed.words(concept_of(cell)) if testbed else None)
    assert words is not None, "a study that asks for it names words, or a model that has them"
    space = Space.of(base_of(cell, options), words, N_SPACE, cell.config["seed"])
    if cell.config["target"] == "original":
        known = {"held out": space.held_out, "random tokens": space.random}
    else:
        file = folder_of(cell.needs["erasure"]) / SAMPLES
        known = {TRAINED: read_tensors(file)[0]["features"]} if file.exists() else {}
    curves = [curve_of(name, samples, space)._asdict() for name, samples in known.items()]
    write_json(out / CURVES, curves)
