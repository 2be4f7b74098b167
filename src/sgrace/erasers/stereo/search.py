"""The search of words that bring an erased concept back, and the regression that erases words."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models import DiffusionModel
from .._shared.partial_samples import PartialSampler, Samples
from .._shared.student import Student
from .._shared.textual_inversion import encode_learned, learn_words
from .._shared.trainer import train
from ..base import Job
from .config import WordSearchConfig
from .material import Material
from .words import WordBank


def search_words(
    config: WordSearchConfig, job: Job, student: Student, source: DiffusionModel, material: Material
) -> WordBank:
    """The concepts' own words, and those that bring the concepts back after each round of erasing."""
    teacher = job.model
    main = teacher.text.main
    bank = material.words
    # the search takes other numbers of steps than the erasure at the end
    short = config.model_copy(update={"iterations": config.search_iterations})
    for _ in range(config.rounds):
        sampler = PartialSampler(short, teacher, source, bank.words[-1], material.uncond, job.generator)
        # the word of the round before is erased, at first the concept's own
        fit(job, student, sampler, config.search_lr, config.weight_decay)
        start = torch.tensor(main.random_tokens(len(job.targets), job.generator))
        learned = learn_words(
            student.model,
            material.prompts,
            material.latents,
            # one token each: (concepts, width) -> (concepts, 1, width)
            {main.name: main.embed(start)[:, None]},
            steps=config.inversion_steps,
            batch=config.inversion_batch,
            lr=config.inversion_lr,
            weight_decay=config.weight_decay,
            generator=job.generator,
        )
        # encoded by the original: the search trains the denoiser, not the text encoder
        bank = bank.added(encode_learned(teacher, material.frames, learned))
    return bank


def fit(
    job: Job,
    student: Student,
    sampler: PartialSampler,
    lr: float,
    weight_decay: float,
    beside: Callable[[Samples], Tensor] | None = None,
) -> None:
    """Regression of the student onto the sampler's targets, with another loss where there is one."""
    optimizer = torch.optim.AdamW(student.parameters, lr=lr, weight_decay=weight_decay)
    sampler = sampler.filled()

    def loss_at(_step: int) -> Tensor:
        samples = sampler.batch()
        output = student.model.predict(samples.latents, samples.timesteps, samples.cond)
        loss = F.mse_loss(output, samples.targets)
        return loss if beside is None else loss + beside(samples)

    train(job, student.parameters, optimizer, sampler.config.iterations, loss_at)
