"""A model draws the answers to the questions of its testbed."""

from __future__ import annotations

from pathlib import Path

from ..._util.tensors import save_tensors_atomically
from ...testbeds.loading import LoadOptions
from ...testbeds.questions import draw
from ..cell import Cell
from ..inputs import testbed_of
from .common import IMAGES, Folders, concept_of, target_of


def make(cell: Cell, folder_of: Folders, out: Path, options: LoadOptions) -> None:
    """Draw the images by which retention is judged."""
    testbed = testbed_of(cell.config["model"])
    assert testbed is not None, "the plan asks for images only where a testbed has questions"
    questions = testbed.questions(
        concept_of(cell),
        cell.config["n_images"],
        prompt_set=cell.config["prompt_set"],
    )
    assert questions is not None
    images = draw(
        target_of(cell, folder_of, options).target,
        questions,
        num_inference_steps=testbed.num_inference_steps,
        guidance_scale=testbed.guidance_scale,
    )
    save_tensors_atomically(out / IMAGES, images)
