"""Concept Ablation (Kumari et al., arXiv 2303.13516): the concept's prompts learn a replacement's output."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from .._util.settings import Settings
from ..knowledge import Target
from ._shared.generated_data import Texts, generate_latents, noise_for, shuffled_batches
from ._shared.prompts import ADDED, Names, names_of, replacement_of
from ._shared.relabel import RelabelBatch, relabel_losses
from ._shared.settings import (
    AdamWRate,
    Count,
    ImageBatchSize,
    ImageGuidance,
    ImageSteps,
    Iterations,
    MaxNorm,
    WeightDecay,
)
from ._shared.student import Student
from ._shared.trainer import train
from .base import Change, Eraser, Job, Need


class ConceptAblationConfig(Settings):
    """Settings; defaults are those of the release for styles and objects.

    Batches are of 8, as on the release's two GPUs.
    """

    site: Literal["text_kv", "attention"] = Field("text_kv", description="Parameters that are trained.")
    pairs: Literal["replace", "add"] = Field(
        "replace",
        description="The concept's prompt is the replacement's with another word, or with the concept added "
        "to it.",
    )
    replacement: str = Field(
        "",
        description="Word of the replacement's prompts. If empty: the concept's first replacement to "
        "`replace`, all unrelated words to `add` to.",
    )
    words: Names = Field(
        "name", description="The concept's prompts use its name only, or its related words too."
    )
    avoid: bool = Field(
        False, description="Generate the replacement's images with the concept as negative prompt."
    )
    target: Literal["model", "noise"] = Field(
        "model",
        description="Learn the model's own output for the replacement, or the true noise of its image.",
    )
    retain_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of the denoising loss on the replacement's images with their own prompts.",
    )
    n_prompts: Count = Field(200, description="Distinct pairs of prompts, over all concepts.")
    n_images: Count = Field(1000, description="Images of the replacements, over all concepts.")
    num_inference_steps: ImageSteps = 25
    guidance_scale: ImageGuidance = 6.0
    iterations: Iterations = 100
    batch: ImageBatchSize = 8
    lr: AdamWRate = 1.6e-5
    weight_decay: WeightDecay = 0.01
    max_norm: MaxNorm = 1.0


PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-object": {},
    "paper-sd14-style": {"pairs": "add"},
    "paper-sd14-nudity": {
        "site": "attention", "pairs": "add", "replacement": "person", "avoid": True, "retain_weight": 1.0,
        "n_prompts": 1000, "iterations": 400, "lr": 6.4e-5,
    },
    "paper-sd14-noise-based": {"target": "noise"},
    "emoji": {
        "words": "related", "retain_weight": 1.0, "n_images": 128, "num_inference_steps": 15,
        "guidance_scale": 2.5, "iterations": 50, "lr": 5e-4,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """Two prompts that differ in the concept only, and the negative prompt of the replacement's image."""

    replacement: str
    concept: str
    negative: str


class ConceptAblation(Eraser[ConceptAblationConfig]):
    """Regression of the output for the concept's prompt onto the output for the replacement's prompt.

    Both outputs are at the same latents.

    The teacher is the network as it is at that step, without gradient. Of several concepts each has an equal
    part of the pairs.

    Differs from the release: it mirrors and pastes its images at random; latents are used as they are
    generated.

    Cost: one denoiser call for each step of each batch of images, then two for each iteration (one with
    ``target=noise``); every text is encoded once. No more images are generated than the iterations can use.
    """

    name = "concept_ablation"
    paper = "arXiv 2303.13516"
    licence = "MIT"
    needs = frozenset({Need.GRADIENTS, Need.GENERATED_DATA})
    changes = "text_kv"
    config_type = ConceptAblationConfig
    presets = PRESETS
    default_preset = "paper-sd14-object"

    def change(self, job: Job) -> Change:
        """See :meth:`Eraser.change`.

        Raises:
            InputError: a concept's words leave no replacement.
        """
        config = self.config
        student = Student.of(job.model, self.site)
        pairs = pairs_of(config, job.targets, job.rng)
        texts = Texts(
            job.model,
            ["", *(text for pair in pairs for text in (pair.replacement, pair.concept, pair.negative))],
        )
        # no more images than training can see; every pair has one before any has two
        n = min(config.n_images, config.iterations * config.batch)
        shown = [pairs[i % len(pairs)] for i in range(n)]
        latents = self._latents(job, texts, shown)
        optimizer = torch.optim.AdamW(student.parameters, lr=config.lr, weight_decay=config.weight_decay)
        batches = shuffled_batches(len(latents), config.batch, job.generator)

        def loss_at(_step: int) -> Tensor:
            rows = next(batches)
            # the same images serve both losses; with weight 0 none are drawn, and none denoised for nothing
            retained = next(batches) if config.retain_weight else torch.empty(0, dtype=torch.long)
            clean = latents[torch.cat([rows, retained])]
            taught = [shown[i] for i in rows.tolist()]
            plain = [shown[i] for i in retained.tolist()]
            losses = relabel_losses(student.model, self._batch(job, texts, clean, taught, plain))
            return losses.forget + config.retain_weight * losses.retain

        train(job, student.parameters, optimizer, config.iterations, loss_at, max_norm=config.max_norm)
        prompts = [[pair.replacement, pair.concept] for pair in pairs[:20]]
        return Change(student.changed(), trained=student.size, details={"prompts": prompts})

    def _latents(self, job: Job, texts: Texts, pairs: Sequence[Pair]) -> Float[Tensor, "n ..."]:
        """An image of the replacement for each pair."""
        return generate_latents(
            job.model,
            texts,
            [pair.replacement for pair in pairs],
            job.generator,
            num_inference_steps=self.config.num_inference_steps,
            guidance_scale=self.config.guidance_scale,
            negatives=[pair.negative for pair in pairs],
        )

    def _batch(
        self, job: Job, texts: Texts, clean: Tensor, taught: Sequence[Pair], plain: Sequence[Pair]
    ) -> RelabelBatch:
        """Images with new noise: those of ``taught`` under the concept's prompts, then ``plain`` ones."""
        noise, timesteps = noise_for(job.model, clean, job.generator)
        cond = texts([pair.concept for pair in taught] + [pair.replacement for pair in plain])
        # the paper's two variants: a teacher's output, or the noise that is really there
        labels = texts(pair.replacement for pair in taught) if self.config.target == "model" else None
        return RelabelBatch(clean, noise, timesteps, cond, len(taught), labels)


def pairs_of(config: ConceptAblationConfig, targets: Sequence[Target], rng: random.Random) -> list[Pair]:
    """At most ``n_prompts`` pairs, the concepts in turn.

    Raises:
        InputError: a concept has no replacement, or no unrelated word to add to, and the settings name none.
    """
    share = -(-config.n_prompts // len(targets))  # rounded up
    each = []
    for target in targets:
        found = _pairs_of_one(config, target)
        each.append(rng.sample(found, min(len(found), share)))
    longest = max(map(len, each))
    # concepts in turn: cutting the list below leaves each its share
    pairs = [own[i % len(own)] for i in range(longest) for own in each]
    # at least one pair of each concept
    return pairs[: max(config.n_prompts, len(each))]


def _pairs_of_one(config: ConceptAblationConfig, target: Target) -> list[Pair]:
    words = target.words
    concept = target.concept
    names = names_of(target, config.words)
    negative = concept.name if config.avoid else ""
    if config.pairs == "replace":
        other = replacement_of(target, config.replacement)
        return [
            Pair(context.format(other), context.format(name), negative)
            for context in words.contexts
            for name in names
        ]
    others = [config.replacement] if config.replacement else words.resolved(concept.name).unrelated
    prompts = [context.format(other) for context in words.unrelated_contexts for other in others]
    added = ADDED[concept.template_kind]
    return [
        Pair(prompt, added.format(prompt=prompt, name=name), negative) for prompt in prompts for name in names
    ]
