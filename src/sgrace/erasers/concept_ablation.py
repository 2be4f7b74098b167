"""Concept Ablation (Kumari et al., arXiv 2303.13516): prompts of the concept learn to draw what an anchor draws."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from tqdm import tqdm

from ..concept import Concept
from ..erasure import Erasure
from ..knowledge import Knowledge
from ..models import StableDiffusion
from ._shared.generated_data import Texts, draw_latents, noise_for, picks
from ._shared.prompts import ADDED, names_of, stand_in
from ._shared.relabel import Batch, relabel_losses
from ._shared.student import Student
from .base import Eraser, check_concepts, facts


class ConceptAblationConfig(BaseModel):
    """Settings; defaults are those of the release for styles and objects, with batches of 8 as on its two GPUs.

    Attributes:
        group: which parameters are trained.
        pairs: the concept's prompt is the anchor's with another word (``replace``) or with the concept added to it (``add``).
        anchor: word of the anchor's prompts; if empty, the first surrogate to ``replace``, all unrelated words to ``add`` to.
        words: the concept's prompts say its name only, or its related words too.
        avoid: the anchor's pictures are drawn with the concept as negative prompt.
        target: the ``model``'s own output for the anchor, or the true ``noise`` of the anchor's picture.
        prior_weight: of the denoising loss on the anchor's pictures with their own prompts; 0 leaves it out.
        n_prompts, n_pictures: distinct pairs of prompts and pictures of the anchor, over all concepts.
        num_inference_steps, guidance_scale: of the pictures.
        iterations, batch, lr, weight_decay, max_norm: of AdamW with clipped gradients.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: Literal["cross_attention_kv", "attention"] = "cross_attention_kv"
    pairs: Literal["replace", "add"] = "replace"
    anchor: str = ""
    words: Literal["name", "related"] = "name"
    avoid: bool = False
    target: Literal["model", "noise"] = "model"
    prior_weight: float = Field(0.0, ge=0)
    n_prompts: int = Field(200, ge=1, le=100_000)
    n_pictures: int = Field(1000, ge=1, le=100_000)
    num_inference_steps: int = Field(25, ge=1, le=1000)
    guidance_scale: float = Field(6.0, ge=1, le=50)
    iterations: int = Field(100, ge=0, le=1_000_000)
    batch: int = Field(8, ge=1, le=1024)
    lr: float = Field(1.6e-5, gt=0, le=1)
    weight_decay: float = Field(0.01, ge=0, le=1)
    max_norm: float = Field(1.0, gt=0)


PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-object": {},
    "paper-sd14-style": {"pairs": "add"},
    "paper-sd14-nudity": {
        "group": "attention", "pairs": "add", "anchor": "person", "avoid": True, "prior_weight": 1.0, "n_prompts": 1000,
        "iterations": 400, "lr": 6.4e-5,
    },
    "paper-sd14-noise-based": {"target": "noise"},
    "emoji": {
        "words": "related", "prior_weight": 1.0, "n_pictures": 128, "num_inference_steps": 15, "guidance_scale": 2.5, "iterations": 50,
        "lr": 5e-4,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """Two prompts that differ in the concept only, and what the anchor's picture is drawn away from."""

    anchor: str
    target: str
    negative: str


class ConceptAblation(Eraser[ConceptAblationConfig]):
    """Regression of the output for the concept's prompt onto the output, at the same latents, for the anchor's prompt.

    The teacher is the network as it is at that step, without gradient. Of several concepts each has an equal part of the pairs.
    The release mirrors and pastes its pictures at random; latents are used as they are drawn.

    Cost: one denoiser call for each step of each 32 pictures, then two for each iteration (one with ``target="noise"``); every text
    is encoded once. No more pictures are drawn than the iterations can use.
    """

    name = "concept_ablation"
    paper = "arXiv 2303.13516"
    pictures = "drawn by itself"
    licence = "MIT"
    trains = "denoiser: cross-attention keys and values, or all attention"
    config_type = ConceptAblationConfig
    presets = PRESETS
    default_preset = "paper-sd14-object"

    def erase(self, model: StableDiffusion, concepts: list[Concept], knowledge: list[Knowledge], *, seed: int = 0) -> Erasure:
        """See :meth:`Eraser.erase`.

        Raises:
            InputError: as there, or a concept's words leave no anchor.
        """
        check_concepts(concepts, knowledge)
        config, started = self.config, time.monotonic()
        student, generator = Student.of(model, config.group), torch.Generator().manual_seed(seed)
        rng = random.Random(seed)
        pairs = pairs_of(config, concepts, knowledge, rng)
        teacher = student.teacher
        texts = Texts(teacher, ["", *(text for pair in pairs for text in (pair.anchor, pair.target, pair.negative))])
        shown = [pairs[i % len(pairs)] for i in range(min(config.n_pictures, config.iterations * config.batch))]
        latents = draw_latents(
            teacher, texts, [p.anchor for p in shown], generator, num_inference_steps=config.num_inference_steps,
            guidance_scale=config.guidance_scale, negatives=[p.negative for p in shown],
        )  # fmt: skip
        optimizer = torch.optim.AdamW(student.parameters, lr=config.lr, weight_decay=config.weight_decay)
        batches = picks(len(latents), config.batch, generator)
        for _ in tqdm(range(config.iterations), desc="erase", **model.progress_bar_options):
            rows, kept = next(batches), next(batches) if config.prior_weight else torch.empty(0, dtype=torch.long)
            taught, plain = [shown[i] for i in rows.tolist()], [shown[i] for i in kept.tolist()]
            clean = latents[torch.cat([rows, kept])]
            noise, timesteps = noise_for(teacher, clean, generator)
            states = texts([*(p.target for p in taught), *(p.anchor for p in plain)])
            labels = texts(p.anchor for p in taught) if config.target == "model" else None
            change, prior = relabel_losses(student.model, Batch(clean, noise, timesteps, states, len(rows), labels))
            loss = change + config.prior_weight * prior
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters, config.max_norm)
            optimizer.step()
        recipe = facts(
            self, teacher, concepts, knowledge, seed, trained=student.size, started=started,
            prompts=[[p.anchor, p.target] for p in pairs[:20]],
        )  # fmt: skip
        return Erasure(recipe, None, unet=student.changed())


def pairs_of(config: ConceptAblationConfig, concepts: Sequence[Concept], knowledge: Sequence[Knowledge], rng: random.Random) -> list[Pair]:
    """At most ``n_prompts`` pairs, the concepts in turn.

    Raises:
        InputError: a concept has no surrogate, or no unrelated word to add to, and ``anchor`` is not set.
    """
    each = []
    for concept, words in zip(concepts, knowledge, strict=True):
        names = names_of(concept, words, config.words)
        negative = concept.name if config.avoid else ""
        if config.pairs == "replace":
            anchor = stand_in(concept, words, config.anchor)
            found = [Pair(c.format(anchor), c.format(name), negative) for c in words.contexts for name in names]
        else:
            anchors = [config.anchor] if config.anchor else words.resolved(concept.name).unrelated
            prompts = [c.format(anchor) for c in words.unrelated_contexts for anchor in anchors]
            found = [Pair(p, ADDED[concept.kind].format(prompt=p, name=name), negative) for p in prompts for name in names]
        each.append(rng.sample(found, min(len(found), -(-config.n_prompts // len(concepts)))))
    longest = max(map(len, each))
    return [rows[i % len(rows)] for i in range(longest) for rows in each][: max(config.n_prompts, len(each))]
