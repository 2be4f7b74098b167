"""Second stage of S-GRACE: the denoiser answers for the concept as the original does for the replacement."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Int
from torch import Tensor

from ..._util.device import check_finite
from ...models import Conditioning, DiffusionModel
from .._shared.generated_data import Texts, encoded
from .._shared.paths import Paths
from .._shared.student import Student
from ..base import Job
from ..esd import SITES
from .config import SGraceConfig
from .constants import Constants
from .learned_words import LearnedWords
from .retain import retain_prompts


@dataclass(frozen=True)
class ConceptPaths:
    """Sampling paths of one concept, and what the denoiser is to answer on them.

    Attributes:
        paths: calls with the concept's prompts, whose outputs are the original's for the same context with
            the replacement.
        frozen: the original's conditioning of the prompts: who has the weights can put the original encoder
            back.
        erased: the trained encoder's.
        words: of the concept.
    """

    paths: Paths
    frozen: Conditioning
    erased: Conditioning
    words: LearnedWords

    @classmethod
    @torch.no_grad()
    def of(cls, job: Job, text: DiffusionModel, words: LearnedWords) -> Self:
        """The paths of the words' images, answered anew."""
        model = job.model
        replacement = words.subject.replacement.word
        named = [prompt.text for prompt in words.named]
        others = [context.format(replacement) for context in words.contexts]
        texts = Texts(model, [*named, *others])
        # the calls for the empty prompt start at the same latents: the concept's own are enough
        paths = words.paths[(words.paths.prompts < len(named)).nonzero().flatten()]
        replaced = texts(others)
        outputs = []
        for at in range(0, len(paths), model.batch_size):
            rows = slice(at, at + model.batch_size)
            cond = replaced[paths.prompts[rows]]
            outputs.append(model.predict(paths.latents[rows], paths.timesteps[rows], cond))
        answered = Paths(paths.latents, paths.timesteps, paths.prompts, torch.cat(outputs), paths.images)
        return cls(answered, texts(named), text.encode(named), words)

    def cond(self, model: DiffusionModel, contexts: Int[Tensor, " n"]) -> Conditioning:
        """Prompts of some of the contexts: half with a learned word, the rest with the concept's own words.

        Of these, half are read by the trained encoder, half by the original one.
        """
        n = len(contexts)
        learned = n - 2 * (n // 4)
        own = contexts[learned:]
        middle = len(own) // 2
        return Conditioning.cat(
            [
                self.words.in_place(model, contexts[:learned]),
                self.erased[own[:middle]],
                self.frozen[own[middle:]],
            ]
        )


@dataclass(frozen=True)
class RetainPaths:
    """Sampling paths of retain prompts, which the denoiser is to answer as before.

    Attributes:
        paths: with the original's outputs.
        cond: the trained encoder's conditioning of the prompts, and last of the empty prompt.
    """

    paths: Paths
    cond: Conditioning

    @classmethod
    @torch.no_grad()
    def of(cls, config: SGraceConfig, job: Job, text: DiffusionModel, constants: Constants) -> Self:
        """Paths of retain prompts of their own: there are fewer, and more of words that nobody listed."""
        drawn = {"retain_pool": config.path_prompts, "random_share": config.path_random_share}
        prompts = retain_prompts(config.model_copy(update=drawn), job, constants.subjects)
        paths = constants.paths(prompts)
        # the last row is for the calls with the empty prompt
        return cls(paths, Conditioning.cat([encoded(text, prompts), text.uncond()]))


def train_denoiser(
    config: SGraceConfig,
    job: Job,
    constants: Constants,
    text: DiffusionModel,
    words: Sequence[LearnedWords],
    bar: Iterator[Any],
) -> Student:
    """Rounds of learning words against the denoiser as it is, and of training it on all words so far.

    With latents and timesteps of the original's sampling paths, prompts ``c`` with a learned word, with a
    word of the concept read by the trained encoder or by the original one, ``r`` the same context with the
    replacement, and retain prompts ``k``::

        mean |eps(x, c) - eps*(x, r)|^2 + w mean |eps(x, k) - eps*(x, k)|^2

    Args:
        config: settings.
        job: the original model and the sources of random choices.
        constants: of the run.
        text: the original with the trained text encoders.
        words: of each concept.
        bar: shows the progress.
    """
    student = Student.of(text, SITES[config.denoiser_site])
    retained = RetainPaths.of(config, job, text, constants)
    concepts = [ConceptPaths.of(job, text, own) for own in words]
    original = student.snapshot()
    optimizer = torch.optim.Adam(student.parameters, lr=config.denoiser_lr)
    total = max(1, config.denoiser_rounds * config.denoiser_steps)
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, total))
    for _ in range(config.denoiser_rounds):
        _requires_grad(student, on=False)  # learning a word needs no gradient of the weights
        for own in words:
            own.learn(student.model, config.denoiser_words)
        _requires_grad(student, on=True)
        for _ in range(config.denoiser_steps):
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(_loss(config, job, student, retained, concepts))
            optimizer.step()
            decay.step()
            next(bar, None)
    _requires_grad(student, on=False)
    # on the line between two sets of weights the concept comes back late, and what is kept comes back early
    # (WiSE-FT, arXiv 2109.01903)
    pairs = zip(student.parameters, original, strict=True)
    student.restore([before.lerp(now, config.denoiser_strength) for now, before in pairs])
    return student


def _loss(
    config: SGraceConfig,
    job: Job,
    student: Student,
    retained: RetainPaths,
    concepts: Sequence[ConceptPaths],
) -> Tensor:
    """The loss of one step; one call of the denoiser for all rows."""
    picked = []
    conds = []
    for concept in concepts:
        rows = torch.randint(len(concept.paths), (config.denoiser_rows,), generator=job.generator)
        picked.append(concept.paths[rows])
        conds.append(concept.cond(student.model, picked[-1].prompts))
    rows = torch.randint(len(retained.paths), (config.denoiser_retain,), generator=job.generator)
    picked.append(retained.paths[rows])
    conds.append(retained.cond[picked[-1].prompts])
    output = student.model.predict(
        torch.cat([own.latents for own in picked]),
        torch.cat([own.timesteps for own in picked]),
        Conditioning.cat(conds),
    )
    errors = (output - torch.cat([own.outputs for own in picked])).square().flatten(1).mean(1)
    n = config.denoiser_retain
    # (concept rows, then retain rows): the means of both
    loss = errors[:-n].mean() + config.denoiser_retain_weight * errors[-n:].mean()
    check_finite(loss.detach(), "The loss", job.model.dtype)
    return loss


def warm_cosine(step: int, total: int, warm_up: int = 10) -> float:
    """Factor of the learning rate: it rises over the first steps, and falls to 0 as a cosine does."""
    return min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * step / total))


def _requires_grad(student: Student, *, on: bool) -> None:
    for parameter in student.parameters:
        parameter.requires_grad_(on)
