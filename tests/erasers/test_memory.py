"""What an eraser says when memory ends, and what a recipe says of the memory that it took."""

from __future__ import annotations

import pytest

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.erasers.base import Change, Eraser, Job
from sgrace.erasers.esd import ESD, ESDConfig
from sgrace.knowledge import Knowledge, Target
from sgrace.models import DiffusionModel


class TooLarge(ESD):
    """ESD whose backward pass runs out of memory."""

    name = "too_large"

    def change(self, job: Job) -> Change:
        """Ask for more memory than any machine has."""
        job.model.noise(2**50, job.generator)
        return Change()


def test_running_out_of_memory_is_one_sentence_with_the_way_out(
    model: DiffusionModel, words: Knowledge
) -> None:
    eraser: Eraser[ESDConfig] = TooLarge()
    with pytest.raises(InputError, match=r"Out of memory; .*--batch-size"):
        eraser.erase(model, [Target(Concept(name="church"), words)])


def test_a_recipe_counts_the_memory_of_the_process_and_of_the_device(
    model: DiffusionModel, words: Knowledge
) -> None:
    recipe = ESD(ESDConfig(iterations=0)).erase(model, [Target(Concept(name="church"), words)]).recipe
    assert recipe.device == "cpu"
    assert recipe.peak_memory_mb is not None
    assert recipe.peak_memory_mb > 0
    assert recipe.device_memory_mb == 0, "there is no other device here than the CPU"
