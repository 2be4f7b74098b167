"""STEREO (Srivatsan et al., arXiv 2408.16807): search words that bring the concept back, then erase all."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from ..knowledge import Target
from ..models import Conditioning
from ._shared.generated_data import Texts, generate_latents
from ._shared.partial_samples import (
    NegativeGuidance,
    PartialSampler,
    PartialSamplesConfig,
    SampleFrom,
    outputs,
)
from ._shared.prompts import ADDED, Names, names_of, replacement_of, retain_prompts
from ._shared.settings import AdamWRate, BatchSize, Count, ImageGuidance, ImageSteps, Iterations, WeightDecay
from ._shared.student import Student
from ._shared.textual_inversion import encode_learned, image_prompts, learn_words, taken_apart
from ._shared.trainer import train
from .base import Change, Eraser, Job, Need
from .esd import SITES, SiteName


class STEREOConfig(PartialSamplesConfig):
    """Settings; defaults are those of the release for nudity.

    ``iterations``, ``batch`` and ``lr`` are those of the erasure at the end.
    """

    negative_guidance: NegativeGuidance = Field(1.0, description="g of the target in the search, as in ESD.")
    sample_from: SampleFrom = "edited"
    site: SiteName = "u"
    rounds: int = Field(2, ge=0, le=100, description="Words that are searched for each concept.")
    search_iterations: Iterations = Field(
        200, description="Training steps that erase one word in the search."
    )
    search_lr: AdamWRate = Field(5e-6, description="Learning rate of these steps.")
    inversion_steps: Iterations = Field(
        3000, description="Steps of learning a word that brings the concept back."
    )
    inversion_batch: BatchSize = Field(1, description="Images in such a step.")
    inversion_lr: AdamWRate = Field(5e-3, description="Learning rate of such a step.")
    words: Names = Field(
        "name",
        description="The contexts and the images from which words are learned use the name only, or its "
        "related words too.",
    )
    n_images: Count = Field(500, description="Images of the concepts.")
    image_steps: ImageSteps = 50
    image_guidance: ImageGuidance = 7.5
    erase_weight: float = Field(
        1.0, ge=0, description="w_e: how far the target lies away from the concept's words."
    )
    retain_weight: float = Field(1.0, ge=0, description="w_a: how far the target lies towards the anchor.")
    n_contexts: int = Field(
        0,
        ge=0,
        le=100_000,
        description="Contexts in which each word is erased; 0 for the concept's own prompt only.",
    )
    anchors: Literal["scenes", "unrelated", "replacement"] = Field(
        "scenes",
        description="Prompts of unrelated words with the concept added, as in the release; prompts of "
        "unrelated words; or the word's own prompt with the replacement in the word's place.",
    )
    n_anchors: Count = Field(
        200,
        description="Anchors of each concept; of the replacement there are as many as contexts.",
    )
    lr: AdamWRate = 2e-5
    weight_decay: WeightDecay = 0.01


PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-nudity": {},
    "paper-sd14-style": {"site": "x", "rounds": 4},
    "paper-sd14-object": {"rounds": 4},
    "as-released": {"erase_weight": 3.0},
    "emoji": {
        "site": "x", "n_contexts": 48, "anchors": "replacement", "sample_from": "frozen", "pool": 64,
        "num_inference_steps": 10, "words": "related", "n_images": 64, "image_steps": 10,
        "image_guidance": 2.5, "search_iterations": 40, "search_lr": 1e-4, "inversion_steps": 40,
        "inversion_batch": 8, "inversion_lr": 0.05, "iterations": 100, "batch": 8, "lr": 2e-4,
    },
}  # fmt: skip


@dataclass(frozen=True)
class WordBank:
    """The words of every concept in its contexts: the concept's own, and the ones found so far.

    Attributes:
        n_concepts, n_contexts: sizes.
        words: one entry a word: ``n_concepts * n_contexts`` prompts, the contexts of a concept together.
    """

    n_concepts: int
    n_contexts: int
    words: tuple[Conditioning, ...]

    def added(self, word: Conditioning) -> WordBank:
        """With one more word of each concept."""
        return replace(self, words=(*self.words, word))

    def everything(self) -> Conditioning:
        """All prompts, by concept, then word, then context."""
        parts = []
        for concept in range(self.n_concepts):
            rows = slice(concept * self.n_contexts, (concept + 1) * self.n_contexts)
            parts += [word[rows] for word in self.words]
        return Conditioning.cat(parts)

    def all_words(self, picks: Int[Tensor, " n"]) -> list[Conditioning]:
        """For prompts of :meth:`everything` by index: each word of the same concept in the same context."""
        concept = picks // (len(self.words) * self.n_contexts)
        place = concept * self.n_contexts + picks % self.n_contexts
        return [word[place] for word in self.words]


class STEREO(Eraser[STEREOConfig]):
    """Search for words that bring the concept back, then erase all of them from the original weights.

    Search: a word is erased as ESD does, then a new one is learned that makes the erased model show the
    concept; it is erased next. Then training restarts from the original weights, with one target for all
    words of a concept: ``eps('') - w_e * mean_i(eps(word_i) - eps('')) + w_a * (eps(anchor) - eps(''))``.

    Differs from the release: there the scale ``g = 2`` gives the words the weight ``g + 1`` and the anchor
    ``g - 1``, though a note calls ``g`` the weight plus one; both weights are 1 here, and 3 and 1 in
    ``as-released``. New words start at random tokens and are learned from images that the original generates;
    words and anchors are picked at random instead of in turns. Several concepts have words, images and
    anchors of their own and share the batches.

    Cost: a denoiser call for each step of each batch of images; the partial samples; a call for each
    iteration, and one of each network for each inversion step. Texts are encoded once, and once in each round
    with the learned word.
    """

    name = "stereo"
    paper = "arXiv 2408.16807"
    licence = "none stated"
    needs = frozenset({Need.GRADIENTS, Need.GENERATED_DATA})
    changes = "not_text_attention"
    config_type = STEREOConfig
    presets = PRESETS
    default_preset = "paper-sd14-nudity"

    @property
    def site(self) -> str:
        """The site that the settings name."""
        return SITES[self.config.site]

    def change(self, job: Job) -> Change:
        """See :meth:`Eraser.change`.

        Raises:
            InputError: a concept has no word of the kind that makes its anchors, or a context is so long that
                it would be cut.
        """
        student = Student.of(job.model, self.site)
        patterns = [contexts_of(target, self.config.n_contexts, job.rng) for target in job.targets]
        anchors = anchor_prompts(self.config, job.targets, patterns, job.rng)
        if self.config.iterations:
            self._train(job, student, patterns, anchors)
        return Change(student.changed(), trained=student.size)

    def _train(self, job: Job, student: Student, patterns: list[list[str]], anchors: list[list[str]]) -> None:
        config = self.config
        teacher = job.model
        n_images = config.n_images if config.rounds else 0
        prompts = image_prompts(teacher, job.targets, config.words, n_images, job.generator)
        plain = [prompt.text for prompt in prompts]
        names = [
            prompt
            for target, own in zip(job.targets, patterns, strict=True)
            for prompt in prompts_of_words(target, own, config.words)
        ]
        replacing = [prompt for own in anchors for prompt in own]
        texts = Texts(teacher, ["", *names, *replacing, *plain])
        latents = generate_latents(
            teacher,
            texts,
            plain,
            job.generator,
            num_inference_steps=config.image_steps,
            guidance_scale=config.image_guidance,
        )
        # the new word is one token, any at all: its embedding is learned
        blank = [replace(prompt, word=[0]) for prompt in prompts]
        frames = [
            replace(taken_apart(teacher, pattern, "", place), word=[0])
            for place, own in enumerate(patterns)
            for pattern in own
        ]
        source = student.model if config.sample_from == "edited" else teacher
        uncond = texts([""])
        original = student.snapshot()
        bank = WordBank(len(job.targets), len(patterns[0]), (texts(names),))
        search = config.model_copy(update={"iterations": config.search_iterations})
        for _ in range(config.rounds):
            sampler = PartialSampler(search, teacher, source, bank.words[-1], uncond, job.generator)
            self._fit(job, student, sampler, config.search_lr)
            start = teacher.text.main.random_tokens(len(job.targets), job.generator)
            learned = learn_words(
                student.model,
                blank,
                latents,
                teacher.text.main.embed(torch.tensor(start))[:, None],
                steps=config.inversion_steps,
                batch=config.inversion_batch,
                lr=config.inversion_lr,
                weight_decay=config.weight_decay,
                generator=job.generator,
            )
            bank = bank.added(encode_learned(teacher, frames, learned))
        student.restore(original)
        last = WordsSampler(
            config,
            teacher,
            source,
            bank.everything(),
            uncond,
            job.generator,
            bank=bank,
            anchors=texts(replacing),
            n_anchors=len(anchors[0]),
        )
        self._fit(job, student, last, config.lr)

    def _fit(self, job: Job, student: Student, sampler: PartialSampler, lr: float) -> None:
        """Regression of the student onto the sampler's targets."""
        optimizer = torch.optim.AdamW(student.parameters, lr=lr, weight_decay=self.config.weight_decay)
        sampler = sampler.filled()

        def loss_at(_step: int) -> Tensor:
            samples = sampler.batch()
            return F.mse_loss(
                student.model.predict(samples.latents, samples.timesteps, samples.cond), samples.targets
            )

        train(job, student.parameters, optimizer, sampler.config.iterations, loss_at)


@dataclass
class WordsSampler(PartialSampler):
    """Samples of all words of the concepts in all their contexts.

    All words of a concept in a context have one target.

    Attributes:
        bank: the words; ``cond`` holds all of them.
        anchors: ``n_anchors`` prompts of each concept; of the replacement, in the same contexts as the words.
        n_anchors: of each concept.
    """

    config: STEREOConfig
    bank: WordBank = field(kw_only=True)
    anchors: Conditioning = field(kw_only=True)
    n_anchors: int = field(kw_only=True)

    def targets(self, latents: Tensor, timesteps: Float[Tensor, " n"], picks: Int[Tensor, " n"]) -> Tensor:
        """The robust target at samples of some of the words.

        One call of the teacher for the words, an anchor and the empty prompt.
        """
        bank = self.bank
        concept = picks // (len(bank.words) * bank.n_contexts)
        place = picks % bank.n_contexts
        if self.config.anchors != "replacement":
            place = torch.randint(self.n_anchors, picks.shape, generator=self.generator)
        anchor = self.anchors[concept * self.n_anchors + place]
        prompts = [self.uncond.expand(len(anchor)), anchor, *bank.all_words(picks)]
        uncond, towards, *words = outputs(self.teacher, latents, timesteps, prompts)
        return robust_target(
            uncond, towards, torch.stack(words), self.config.erase_weight, self.config.retain_weight
        )


def robust_target(
    uncond: Tensor,
    anchor: Tensor,
    words: Float[Tensor, "words ..."],
    erase_weight: float,
    retain_weight: float,
) -> Tensor:
    """``eps('') - w_e mean_i(eps(word_i) - eps('')) + w_a (eps(anchor) - eps(''))``."""
    return uncond - erase_weight * (words.mean(0) - uncond) + retain_weight * (anchor - uncond)


def contexts_of(target: Target, n: int, rng: random.Random) -> list[str]:
    """``n`` contexts of a concept, repeated where there are fewer; for 0, the pattern of its own prompt."""
    concept = target.concept
    contexts = target.words.contexts
    found = rng.sample(contexts, min(len(contexts), n)) or [concept.prompt.removesuffix(concept.name) + "{}"]
    return [found[i % len(found)] for i in range(max(n, 1))]


def prompts_of_words(target: Target, patterns: Sequence[str], which: Names) -> list[str]:
    """The prompt of each context: the concept's words in turn, its name first."""
    return [
        pattern.format(name) for pattern, name in zip(patterns, cycle(names_of(target, which)), strict=False)
    ]


def anchor_prompts(
    config: STEREOConfig, targets: Sequence[Target], patterns: Sequence[Sequence[str]], rng: random.Random
) -> list[list[str]]:
    """The anchors of each concept, repeated where there are too few.

    Args:
        config: settings.
        targets: the concepts.
        patterns: contexts of each of them.
        rng: source of the choices.

    Raises:
        InputError: a concept has no replacement, or no unrelated word.
    """
    prompts = []
    for target, own in zip(targets, patterns, strict=True):
        if config.anchors == "replacement":
            prompts.append([pattern.format(replacement_of(target, "")) for pattern in own])
            continue
        found = retain_prompts(targets, config.n_anchors, rng)
        if config.anchors == "scenes":
            added = ADDED[target.concept.template_kind]
            found = [added.format(prompt=prompt, name=target.concept.name) for prompt in found]
        prompts.append([found[i % len(found)] for i in range(config.n_anchors)])
    return prompts
