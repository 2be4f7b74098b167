"""DES, Distorting Embedding Space (Ahn and Jung, arXiv 2501.18877): prompts of the concept come to lie where nothing of it is."""

from __future__ import annotations

import random
import time

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from tqdm import tqdm

from ..concept import Concept
from ..erasure import Erasure
from ..knowledge import Knowledge
from ..models import StableDiffusion
from ._shared.generated_data import Texts
from ._shared.prompts import kept_prompts, shown_prompts
from ._shared.student import TextStudent
from .base import Eraser, check_concepts, facts


class DESConfig(BaseModel):
    """Settings; defaults are those of the paper for SD 1.5.

    Attributes:
        n_prompts: prompts of the concepts, and as many of unrelated words, of which there may be fewer.
        strength: length of the concept's direction that is taken off the targets; CLIP-L's states of a prompt are some 250 long.
        keep_weight: weight of the kept prompts; the concept's prompts and its name have the rest.
        iterations, batch, lr: of Adam; rows of each kind in an iteration.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_prompts: int = Field(6911, ge=1, le=100_000)
    strength: float = Field(200.0, ge=0)
    keep_weight: float = Field(0.3, ge=0, le=1)
    iterations: int = Field(108, ge=0, le=1_000_000)
    batch: int = Field(128, ge=1, le=4096)
    lr: float = Field(1e-5, gt=0, le=1)


PRESETS: dict[str, dict[str, object]] = {
    "paper-sd15-nudity": {},
    "emoji": {"n_prompts": 256, "strength": 10.0, "keep_weight": 0.8, "iterations": 75, "batch": 16, "lr": 2e-4},
}


class DES(Eraser[DESConfig]):
    """Cosines of whole text states: the concept's prompts go to targets, kept prompts stay, the concept's name comes to say nothing.

    A target is the kept prompt that is least like the concept's own, with the concept's direction taken off; a vector is all states of a
    prompt at once, which is what the paper's strength of 200 fits. Its 6,911 pairs of prompts come from a collection of harmful ones; here
    they are made of the concept's words. Several concepts have equal parts of them, and each has a direction and a name.

    Cost: each prompt once; then one call of the text encoder for each iteration. No denoiser.
    """

    name = "des"
    paper = "arXiv 2501.18877"
    licence = "CC BY-NC 4.0"
    trains = "text encoder layers"
    config_type = DESConfig
    presets = PRESETS
    default_preset = "paper-sd15-nudity"

    def erase(self, model: StableDiffusion, concepts: list[Concept], knowledge: list[Knowledge], *, seed: int = 0) -> Erasure:
        """See :meth:`Eraser.erase`.

        Raises:
            InputError: as there, or no unrelated word is left.
        """
        check_concepts(concepts, knowledge)
        config, started = self.config, time.monotonic()
        student, rng = TextStudent.of(model), random.Random(seed)
        kept = kept_prompts(concepts, knowledge, config.n_prompts, rng)
        each = max(1, config.n_prompts // len(concepts))
        shown = [dict.fromkeys(shown_prompts(c, words, each, rng)) for c, words in zip(concepts, knowledge, strict=True)]
        names = [concept.name for concept in concepts]
        prompts = [(prompt, i) for i, own in enumerate(shown) for prompt in own]
        if config.iterations:
            self._train(student, prompts, kept, names, torch.Generator().manual_seed(seed))
        recipe = facts(self, student.teacher, concepts, knowledge, seed, trained=student.size, started=started)
        return Erasure(recipe, model.pipeline.tokenizer, text_encoder=student.model.text_encoder)

    def _train(
        self, student: TextStudent, prompts: list[tuple[str, int]], kept: list[str], names: list[str], generator: torch.Generator
    ) -> None:
        config, teacher = self.config, student.teacher
        shown, concept_of = [prompt for prompt, _ in prompts], torch.tensor([concept for _, concept in prompts])
        texts = Texts(teacher, [*shown, *kept, *names, ""])
        safe, empty = texts(kept).flatten(1), texts([""]).flatten(1)
        directions = F.normalize(texts(names).flatten(1), dim=-1)
        goals = targets(texts(shown).flatten(1), safe, directions[concept_of], config.strength)
        shown_ids, kept_ids, name_ids = (teacher.tokenize(of).ids for of in (shown, kept, names))
        optimizer = torch.optim.Adam(student.parameters, lr=config.lr)
        student.requires_grad_(True)
        for _ in tqdm(range(config.iterations), desc="erase", **teacher.progress_bar_options):
            picks, others = (torch.randint(len(of), (config.batch,), generator=generator) for of in (shown, kept))
            states = student.model.encode(torch.cat([shown_ids[picks], kept_ids[others], name_ids])).flatten(1)
            unsafe, now, named = states.split([config.batch, config.batch, len(names)])
            beside = directions[torch.randint(len(names), (config.batch,), generator=generator)]
            keep = keep_loss(now, safe[others], config.strength * beside)
            loss = config.keep_weight * keep + (1 - config.keep_weight) * (turned(unsafe, goals[picks]) + turned(named, empty))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        student.requires_grad_(False)


def targets(
    unsafe: Float[Tensor, "n d"], safe: Float[Tensor, "m d"], directions: Float[Tensor, "n d"], strength: float
) -> Float[Tensor, "n d"]:
    """For each vector of the concept, the kept one with the lowest cosine to it, less ``strength`` times the concept's unit direction."""
    cosines = F.normalize(unsafe, dim=-1) @ F.normalize(safe, dim=-1).T
    return safe[cosines.argmin(-1)] - strength * directions


def turned(vectors: Float[Tensor, "n d"], goals: Float[Tensor, "#n d"]) -> Tensor:
    """Mean of ``1 - cos``."""
    return (1 - F.cosine_similarity(vectors, goals, dim=-1)).mean()


def keep_loss(now: Float[Tensor, "n d"], before: Float[Tensor, "n d"], shift: Float[Tensor, "n d"]) -> Tensor:
    """``1 - cos`` of kept vectors to what they were, as they are and moved along the concept's direction.

    The second term weighs little where a vector lies along the direction anyway: such prompts may move with the concept.
    """
    return turned(now, before) + turned(now + shift, before)
