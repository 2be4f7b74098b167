"""Second stage of S-GRACE: where the original draws the concept, the denoiser draws the replacement."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from ..._util.device import check_finite
from ...models import Conditioning, DiffusionModel
from .._shared.generated_data import Texts, encoded, generate_latents, noise_for
from .._shared.student import Student
from ..base import Job
from ..esd import SITES
from .calls import DRAWN, Calls
from .config import SGraceConfig
from .constants import Constants
from .retained import Retained
from .subject import Subject

#: Highest noise level at which an image still shows what it is of. Above it the prompt alone decides, so that
#: other prompts must be answered there as before.
VISIBLE = 0.65
#: Both images of a pair may be the same.
LEAST_SCALE = 1e-3


@dataclass(frozen=True)
class ConceptImages:
    """What the original draws of the same noise: for the concept's prompts, and with the replacement instead.

    Attributes:
        images: clean latents of prompts with the concept's words.
        replaced: clean latents of the same prompts with the replacement, from the same initial noise.
        frozen: the original's conditioning of the concept's prompts: who has the weights can put the original
            encoder back.
        erased: the trained encoder's.
    """

    images: Float[Tensor, "n ..."]
    replaced: Float[Tensor, "n ..."]
    frozen: Conditioning
    erased: Conditioning

    @classmethod
    def of(cls, config: SGraceConfig, job: Job, text: DiffusionModel, subject: Subject) -> Self:
        """The images of one concept; every word of it has as many, in contexts drawn by chance."""
        words = islice(cycle(subject.related), config.concept_images)
        rows = [(job.rng.choice(subject.words.contexts), word) for word in words]
        named = [context.format(word) for context, word in rows]
        others = [context.format(subject.replacement.word) for context, _ in rows]
        texts = Texts(job.model, [*named, *others, ""])
        seed = int(torch.randint(2**31, (), generator=job.generator))

        def drawn(prompts: Sequence[str]) -> Tensor:
            return generate_latents(
                job.model,
                texts,
                prompts,
                torch.Generator().manual_seed(seed),  # the same noise each time
                num_inference_steps=config.path_steps,
                guidance_scale=config.guidance_scale,
            )

        frozen = texts(named)
        erased = frozen if text is job.model else encoded(text, named)
        return cls(drawn(named), drawn(others), frozen, erased)

    def calls(self, config: SGraceConfig, job: Job, anything: Conditioning) -> Calls:
        """Noised images of the concept, which the denoiser is to see as those of the replacement.

        A quarter has the concept's own prompt, read by the trained encoder; a quarter the same, read by the
        original one. The others are at levels at which the image shows: they have any prompt, since a word
        that is learned from images can be anything, and one of eight the empty one, which guidance adds.
        """
        n = config.denoiser_rows
        quarter = n // 4
        empty = n // 8
        picks = torch.randint(len(self.images), (n,), generator=job.generator)
        schedule = job.model.schedule
        timesteps = torch.cat(
            [
                schedule.sample_timesteps(2 * quarter, job.generator, DRAWN),
                schedule.sample_timesteps(n - 2 * quarter, job.generator, DRAWN, VISIBLE),
            ]
        ).to(job.model.device)
        noise = noise_for(job.model, self.images[picks], job.generator).noise
        latents = schedule.add_noise(self.images[picks], noise, timesteps)
        others = torch.randint(len(anything), (n - 2 * quarter - empty,), generator=job.generator)
        cond = [
            self.erased[picks[:quarter]],
            self.frozen[picks[quarter : 2 * quarter]],
            anything[others],
            anything[-1:].expand(empty),
        ]
        outputs = schedule.from_clean(self.replaced[picks], latents, timesteps)
        unchanged = schedule.from_clean(self.images[picks], latents, timesteps)
        scales = (outputs - unchanged).square().flatten(1).mean(1).clamp_min(LEAST_SCALE)
        return Calls(latents, timesteps, Conditioning.cat(cond), outputs, scales)


def train_denoiser(
    config: SGraceConfig, job: Job, constants: Constants, text: DiffusionModel, bar: Iterator[Any]
) -> Student:
    """Train the denoiser on images of the concept and on what must stay.

    ``x_t`` is a noised image ``x`` of the concept, ``y`` the image that the original draws of the same noise
    with the replacement in the prompt, ``c`` the concept's prompt or any other, ``v(x_t, y)`` the output that
    stands for the clean image ``y``, and ``k`` retain prompts at latents ``z`` of the original's sampling
    paths or at their images, noised anew::

        mean |eps(x_t, c) - v(x_t, y)|^2 / |v(x_t, x) - v(x_t, y)|^2 + w mean u(z) |eps(z, k) - eps*(z, k)|^2

    The division gives all noise levels the same weight: near the clean image an output that changes it is
    large, and such rows alone would decide. ``u`` is :data:`~.retained.QUIET_WEIGHT` at noise levels at which
    nothing is erased, and 1 above.

    The target depends on the image and not on how ``c`` is written: it is meant to hold for prompts and
    learned words that training never saw.

    Args:
        config: settings.
        job: the original model and the sources of random choices.
        constants: of the run.
        text: the original, or with the trained text encoders.
        bar: shows the progress.
    """
    student = Student.of(text, SITES[config.denoiser_site])
    retained = Retained.of(config, job, text, constants)
    concepts = [ConceptImages.of(config, job, text, subject) for subject in constants.subjects]
    original = student.snapshot()
    optimizer = torch.optim.Adam(student.parameters, lr=config.denoiser_lr)
    decay = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: warm_cosine(step, config.denoiser_steps)
    )
    for _ in range(config.denoiser_steps):
        erased = [concept.calls(config, job, retained.erased) for concept in concepts]
        torch.autograd.backward(
            _loss(config, job, student.model, Calls.cat(erased), retained.calls(config, job))
        )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        decay.step()
        next(bar, None)
    for parameter in student.parameters:
        parameter.requires_grad_(False)
    # on the line between two sets of weights the concept comes back late, and what is kept comes back early
    # (WiSE-FT, arXiv 2109.01903)
    pairs = zip(student.parameters, original, strict=True)
    student.restore([before.lerp(now, config.denoiser_strength) for now, before in pairs])
    return student


def _loss(config: SGraceConfig, job: Job, model: DiffusionModel, erased: Calls, kept: Calls) -> Tensor:
    """The loss of one step; one call of the denoiser for all rows."""
    calls = Calls.cat([erased, kept])
    output = model.predict(calls.latents, calls.timesteps, calls.cond)
    # (concept rows, then retain rows)
    errors = (output - calls.outputs).square().flatten(1).mean(1) / calls.scales
    n = len(erased.timesteps)
    loss = errors[:n].mean() + config.denoiser_retain_weight * errors[n:].mean()
    check_finite(loss.detach(), "The loss", job.model.dtype)
    return loss


def warm_cosine(step: int, total: int, warm_up: int = 10) -> float:
    """Factor of the learning rate: it rises over the first steps, and falls to 0 as a cosine does."""
    return min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * step / total))
