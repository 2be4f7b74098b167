"""STEREO (Srivatsan et al., arXiv 2408.16807): words that bring the concept back are searched first, then all are erased at once."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, cycle
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from tqdm import tqdm

from ..concept import Concept
from ..erasure import Erasure
from ..knowledge import Knowledge
from ..models import StableDiffusion
from ._shared.generated_data import Texts, draw_latents
from ._shared.partial_samples import PartialSampler, PartialSamplesConfig, outputs
from ._shared.prompts import ADDED, kept_prompts, names_of, stand_in
from ._shared.student import Student
from ._shared.textual_inversion import inverted, picture_prompts, said, taken_apart
from .base import Eraser, check_concepts, facts
from .esd import GROUPS


class STEREOConfig(PartialSamplesConfig):
    """Settings; ``iterations``, ``batch`` and ``lr`` are those of the erasure at the end, defaults those of the release for nudity.

    Attributes:
        group: which parameters are trained.
        rounds: words that are searched for each concept.
        search_iterations, search_lr: of AdamW, of the erasure of one word in the search; its target has ``form`` and ``strength``.
        inversion_steps, inversion_batch, inversion_lr: of AdamW, of learning a word that brings the concept back.
        words: the contexts and the pictures from which words are learnt say the concept's name only, or its related words too.
        n_pictures: pictures of the concepts. picture_steps, picture_guidance: of these pictures.
        erase_weight, anchor_weight: how far the target lies away from the concept's words and towards the anchor.
        n_contexts: contexts in which each word is said and erased; 0 for the concept's own prompt only.
        anchors: ``scenes`` are prompts of unrelated words with the concept added, as in the release; or the prompts of ``unrelated`` words;
            or the word's own prompt with the concept's ``surrogate`` in the word's place.
        n_anchors: prompts of each concept, but for the surrogate's, which are as many as the word's.
        lr, weight_decay: of AdamW.
    """

    strength: float = Field(1.0, gt=0)
    sample_from: Literal["frozen", "edited"] = "edited"
    group: Literal["x", "x-strict", "u", "self-attention", "all"] = "u"
    rounds: int = Field(2, ge=0, le=100)
    search_iterations: int = Field(200, ge=0, le=1_000_000)
    search_lr: float = Field(5e-6, gt=0, le=1)
    inversion_steps: int = Field(3000, ge=0, le=1_000_000)
    inversion_batch: int = Field(1, ge=1, le=1024)
    inversion_lr: float = Field(5e-3, gt=0, le=1)
    words: Literal["name", "related"] = "name"
    n_pictures: int = Field(500, ge=1, le=100_000)
    picture_steps: int = Field(50, ge=1, le=1000)
    picture_guidance: float = Field(7.5, ge=1, le=50)
    erase_weight: float = Field(1.0, ge=0)
    anchor_weight: float = Field(1.0, ge=0)
    n_contexts: int = Field(0, ge=0, le=100_000)
    anchors: Literal["scenes", "unrelated", "surrogate"] = "scenes"
    n_anchors: int = Field(200, ge=1, le=100_000)
    lr: float = Field(2e-5, gt=0, le=1)
    weight_decay: float = Field(0.01, ge=0, le=1)


PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-nudity": {},
    "paper-sd14-style": {"group": "x", "rounds": 4},
    "paper-sd14-object": {"rounds": 4},
    "as_released": {"erase_weight": 3.0},
    "emoji": {
        "group": "x", "n_contexts": 48, "anchors": "surrogate", "sample_from": "frozen", "pool": 64, "num_inference_steps": 10,
        "words": "related", "n_pictures": 64, "picture_steps": 10, "picture_guidance": 2.5, "search_iterations": 40, "search_lr": 1e-4,
        "inversion_steps": 40, "inversion_batch": 8, "inversion_lr": 0.05, "iterations": 100, "batch": 8, "lr": 2e-4,
    },
}  # fmt: skip


class STEREO(Eraser[STEREOConfig]):
    """Search: a word is erased as ESD does, then a new one is learnt that makes the erased model draw the concept; it is erased next.

    Then the original starts again and is taught, for all the words of a concept, to answer with ``eps("")``, less what the words add to it
    on the average, plus what an anchor adds. In the release the scale ``g = 2`` gives the words the weight ``g + 1`` and the anchor the
    weight ``g - 1``, though a note there calls ``g`` the weight plus one: so both weights are 1 here, and 3 and 1 in ``as_released``.

    New words start at random ones, and are learnt from pictures that the original draws. Words and anchors are drawn at random, where
    the release takes turns. Several concepts have words, pictures and anchors of their own and share the batches.

    Cost: a denoiser call for each step of each 32 pictures; the partial samples; a call for each iteration, and one of each network for
    each inversion step. Texts are encoded once, and once in each round with the learned word.
    """

    name = "stereo"
    paper = "arXiv 2408.16807"
    pictures = "drawn by itself"
    licence = "none stated"
    trains = "denoiser: the chosen group"
    config_type = STEREOConfig
    presets = PRESETS
    default_preset = "paper-sd14-nudity"

    def erase(self, model: StableDiffusion, concepts: list[Concept], knowledge: list[Knowledge], *, seed: int = 0) -> Erasure:
        """See :meth:`Eraser.erase`.

        Raises:
            InputError: as there, a concept has no word of the kind that makes its anchors, or a context is so long that it would be cut.
        """
        check_concepts(concepts, knowledge)
        config, started, generator = self.config, time.monotonic(), torch.Generator().manual_seed(seed)
        rng = random.Random(seed)
        student = Student.of(model, GROUPS[config.group])
        patterns = said_in(concepts, knowledge, config.n_contexts, rng)
        anchors = anchor_prompts(config, concepts, knowledge, patterns, rng)
        if config.iterations:
            self._train(student, concepts, knowledge, patterns, anchors, generator)
        recipe = facts(self, student.teacher, concepts, knowledge, seed, trained=student.size, started=started)
        return Erasure(recipe, None, unet=student.changed())

    def _train(
        self,
        student: Student,
        concepts: list[Concept],
        knowledge: list[Knowledge],
        patterns: list[list[str]],
        anchors: list[list[str]],
        generator: torch.Generator,
    ) -> None:
        config, teacher = self.config, student.teacher
        prompts = picture_prompts(teacher, concepts, knowledge, config.words, config.n_pictures if config.rounds else 0, generator)
        names = [said_words(c, words, own, config.words) for c, words, own in zip(concepts, knowledge, patterns, strict=True)]
        texts = Texts(teacher, ["", *chain(*names, *anchors), *(prompt.text for prompt in prompts)])
        latents = draw_latents(
            teacher, texts, [prompt.text for prompt in prompts], generator,
            num_inference_steps=config.picture_steps, guidance_scale=config.picture_guidance,
        )  # fmt: skip
        # the new word is one token, any at all: its embedding is learnt
        blank = [dataclasses.replace(prompt, word=[0]) for prompt in prompts]
        frames = [dataclasses.replace(taken_apart(teacher, p, "", i), word=[0]) for i, own in enumerate(patterns) for p in own]
        source = student.model if config.sample_from == "edited" else teacher
        empty, original = texts([""]), student.snapshot()
        words = torch.stack([texts(own) for own in names])[:, None]
        search = config.model_copy(update={"iterations": config.search_iterations})
        for _ in range(config.rounds):
            self._fit(student, PartialSampler(search, teacher, source, words[:, -1].flatten(0, 1), empty, generator), config.search_lr)
            start = teacher.embed(torch.tensor(teacher.random_tokens(len(concepts), generator)))[:, None]
            learnt = inverted(
                student.model, blank, latents, start, steps=config.inversion_steps, batch=config.inversion_batch,
                lr=config.inversion_lr, weight_decay=config.weight_decay, generator=generator,
            )  # fmt: skip
            words = torch.cat([words, said(teacher, frames, learnt).unflatten(0, (len(concepts), 1, -1))], 1)
        student.restore(original)
        towards = torch.stack([texts(own) for own in anchors])
        self._fit(
            student,
            WordsSampler(config, teacher, source, words.flatten(0, 2), empty, generator, words=words, anchors=towards),
            config.lr,
        )

    def _fit(self, student: Student, sampler: PartialSampler, lr: float) -> None:
        """Regression of the student onto the sampler's targets."""
        optimizer = torch.optim.AdamW(student.parameters, lr=lr, weight_decay=self.config.weight_decay)
        sampler = sampler.filled()
        for _ in tqdm(range(sampler.config.iterations), desc="erase", **student.teacher.progress_bar_options):
            samples = sampler.batch()
            loss = F.mse_loss(student.model.predict(samples.latents, samples.timesteps, samples.states), samples.targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()


@dataclass
class WordsSampler(PartialSampler):
    """Samples of all words of the concepts in all their contexts, with one target for all words of a concept in a context.

    Attributes:
        config: settings.
        words: text states of the words of each concept in its contexts; ``shown`` are the same in one row.
        anchors: text states of the anchors of each concept; of the surrogate, in the same contexts.
    """

    config: STEREOConfig
    words: Float[Tensor, "concepts words contexts length features"] = field(kw_only=True)
    anchors: Float[Tensor, "concepts anchors length features"] = field(kw_only=True)

    def targets(self, latents: Tensor, timesteps: Int[Tensor, " n"], picks: Int[Tensor, " n"]) -> Tensor:
        """The robust target at samples of some of the words; one call of the teacher for the words, an anchor and the empty prompt."""
        n_words, n_contexts = self.words.shape[1:3]
        concept, context = picks // (n_words * n_contexts), picks % n_contexts
        at = context
        if self.config.anchors != "surrogate":
            at = torch.randint(self.anchors.shape[1], picks.shape, generator=self.generator)
        anchor = self.anchors[concept, at]
        texts = [self.empty.expand_as(anchor), anchor, *self.words[concept, :, context].unbind(1)]
        nothing, towards, *away = outputs(self.teacher, latents, timesteps, texts)
        return robust_target(nothing, towards, torch.stack(away), self.config.erase_weight, self.config.anchor_weight)


def robust_target(
    nothing: Tensor, anchor: Tensor, words: Float[Tensor, "words n channels height width"], erase_weight: float, anchor_weight: float
) -> Tensor:
    """``eps("") + mean_i[-w_e (eps(word_i) - eps(""))] + w_a (eps(anchor) - eps(""))``."""
    return nothing - erase_weight * (words.mean(0) - nothing) + anchor_weight * (anchor - nothing)


def said_in(concepts: Sequence[Concept], knowledge: Sequence[Knowledge], n: int, rng: random.Random) -> list[list[str]]:
    """``n`` contexts of each concept, repeated where there are fewer; for 0, the pattern of its own prompt."""
    patterns = []
    for concept, words in zip(concepts, knowledge, strict=True):
        found = rng.sample(words.contexts, min(len(words.contexts), n)) or [concept.prompt.removesuffix(concept.name) + "{}"]
        patterns.append([found[i % len(found)] for i in range(max(n, 1))])
    return patterns


def said_words(concept: Concept, words: Knowledge, patterns: Sequence[str], which: Literal["name", "related"]) -> list[str]:
    """The prompt of each context: the concept's words in turn, its name first."""
    return [pattern.format(name) for pattern, name in zip(patterns, cycle(names_of(concept, words, which)), strict=False)]


def anchor_prompts(
    config: STEREOConfig, concepts: Sequence[Concept], knowledge: Sequence[Knowledge], patterns: Sequence[Sequence[str]], rng: random.Random
) -> list[list[str]]:
    """The anchors of each concept, repeated where there are too few.

    Args:
        config: settings.
        concepts: to be erased.
        knowledge: words of each of them.
        patterns: contexts of each of them.
        rng: source of the choices.

    Raises:
        InputError: a concept has no surrogate, or no unrelated word.
    """
    prompts = []
    for concept, words, own in zip(concepts, knowledge, patterns, strict=True):
        if config.anchors == "surrogate":
            prompts.append([pattern.format(stand_in(concept, words, "")) for pattern in own])
            continue
        found = kept_prompts(concepts, knowledge, config.n_anchors, rng)
        if config.anchors == "scenes":
            found = [ADDED[concept.kind].format(prompt=prompt, name=concept.name) for prompt in found]
        prompts.append([found[i % len(found)] for i in range(config.n_anchors)])
    return prompts
