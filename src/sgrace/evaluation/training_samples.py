"""How the adversarial samples that an eraser trains on cover the space of the concept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..erasers._shared.adversarial_samples import AdversarialSamples
from ..erasers.uce import UCEConfig, whole_prompts
from ..knowledge import Knowledge, Target
from ..metrics import concept_space as measures
from ..models import DiffusionModel
from .concept_space import text_features
from .space import concept_prompts, random_prompts

#: Numbers of samples, beside all of them.
SIZES = (8, 16, 32, 64, 128, 256, 512)
#: Draws of each number.
DRAWS = 20


class Space(NamedTuple):
    """Features ``(n, width)`` of prompts that mark the space of a concept, and of random tokens."""

    reference: Tensor
    held_out: Tensor
    neighbours: Tensor
    random: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, model: DiffusionModel, words: Knowledge, n: int, seed: int) -> Space:
        """The space of a concept, as a model before erasing reads ``n`` prompts of each kind.

        Raises:
            InputError: the words make fewer than 20 prompts of the concept.
        """
        generator = torch.Generator().manual_seed(seed)
        prompts = concept_prompts(words, n, generator)
        return cls(
            reference=text_features(model.encode(prompts.reference)),
            held_out=text_features(model.encode(prompts.held_out)),
            neighbours=text_features(model.encode(prompts.neighbours)),
            random=text_features(random_prompts(model, model, n, generator)),
        )


class SpaceCurve(NamedTuple):
    """Measures of growing numbers of samples.

    Each measure has mean, lowest and highest over draws of so many samples.

    Attributes:
        samples: whose they are.
        different: effective number of different ones among all.
        sizes: the numbers; the last is of all.
        coverage: share of the concept's prompts that a sample covers, over what samples of the concept's own
            distribution cover.
        off_concept: distance from a sample to the nearest prompt of the concept, over that of held-out
            prompts.
        spill_over: share of samples that lie among the neighbours.
    """

    samples: str
    different: float
    sizes: Sequence[int]
    coverage: Sequence[Sequence[float]]
    off_concept: Sequence[Sequence[float]]
    spill_over: Sequence[Sequence[float]]


@torch.no_grad()
def features_of(
    model: DiffusionModel, found: Sequence[AdversarialSamples], config: object, targets: Sequence[Target]
) -> Tensor:
    """Features of samples, as the model before erasing reads them: ``(n, width)``.

    Args:
        model: before erasing.
        found: the samples, at least one.
        config: of the eraser that made them.
        targets: that it erased.
    """
    return torch.cat([_features(model, each, config, targets) for each in found])


def _features(
    model: DiffusionModel, found: AdversarialSamples, config: object, targets: Sequence[Target]
) -> Tensor:
    values = found.values.to(model.device)
    if found.inlet == "input_embeds":
        tokens = model.text.main.tokenize([""] * len(values))  # their embeddings are not read
        return text_features(model.encode_tokens(tokens, values))
    if found.inlet == "prompt_embed_rows":
        assert isinstance(config, UCEConfig), "closed forms alone read single positions"
        values = whole_prompts(model, config, targets, values)
    return text_features(model.uncond().expand(len(values)).with_embeds(values))


def curve_of(name: str, samples: Tensor, space: Space) -> SpaceCurve:
    """The measures for growing numbers of samples, up to all of them.

    Args:
        name: whose samples they are.
        samples: features ``(n, width)``.
        space: of the concept.
    """
    generator = torch.Generator().manual_seed(0)
    sizes = sorted({*(size for size in SIZES if size < len(samples)), len(samples)})
    spreads = []
    for n in sizes:
        draws = DRAWS if n < len(samples) else 1
        picks = [torch.randperm(len(samples), generator=generator)[:n] for _ in range(draws)]
        values = torch.tensor([_measured(space, samples[pick]) for pick in picks])  # (draws, measures)
        spreads.append(torch.stack([values.mean(0), values.amin(0), values.amax(0)], 1))
    # (sizes, measures, 3) -> (measures, sizes, 3)
    by_measure = torch.stack(spreads).transpose(0, 1).double().round(decimals=4).tolist()
    return SpaceCurve(name, round(measures.vendi(samples), 2), sizes, *by_measure)


def _measured(space: Space, samples: Tensor) -> list[float]:
    n, m = len(space.reference), len(samples)
    k = measures.coverage_neighbours(n, m)
    covered = measures.coverage(space.reference, samples, k) / measures.expected_coverage(n, m, k)
    distance = measures.fill_distance(samples, space.reference)
    # where all prompts are read alike, distances are told as they are
    spacing = measures.fill_distance(space.held_out, space.reference) or 1.0
    return [covered, distance / spacing, measures.spill_over(space.reference, space.neighbours, samples)]
