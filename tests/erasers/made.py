"""What the tests of erasers start from."""

from __future__ import annotations

import random

import torch

from sgrace.concept import Concept
from sgrace.erasers.base import Job
from sgrace.knowledge import Knowledge, Target
from sgrace.models import DiffusionModel

CHURCH = Concept(name="church")


def target(words: Knowledge, concept: Concept = CHURCH) -> Target:
    return Target(concept, words)


def job_of(model: DiffusionModel, *targets: Target, seed: int = 0) -> Job:
    """A job as :meth:`Eraser.erase` makes it; calls are counted by the given model."""
    return Job(model, targets, seed, torch.Generator().manual_seed(seed), random.Random(seed))
