"""Partial samples of concepts, and the outputs that steer away from the concepts (arXiv 2303.07345).

A denoiser learns these outputs at the samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from ..._util.device import batches
from ..._util.settings import Settings
from ...concept import Concept
from ...models import Conditioning, DiffusionModel
from .settings import BatchSize, Count, Iterations, PartialGuidance, PartialSteps

Form = Annotated[
    Literal["A", "B"],
    Field(
        description="`A`: eps('') - g (eps(c) - eps('')). `B`: eps(c) - g (eps(c) - eps('')). B with g + 1 "
        "equals A with g."
    ),
]
NegativeGuidance = Annotated[
    float, Field(gt=0, description="g: how far the target lies on the other side of the concept.")
]
SampleFrom = Annotated[
    Literal["frozen", "edited"],
    Field(
        description="Partial samples come from the original (once, with their targets) or from the edited "
        "model."
    ),
]


class PartialSamplesConfig(Settings):
    """Settings of the samples; defaults are those of ESD's diffusers release."""

    form: Form = "B"
    negative_guidance: NegativeGuidance = 2.0
    sample_from: SampleFrom = "frozen"
    pool: Count = Field(200, description="Number of partial samples, where they are made once.")
    iterations: Iterations = 200
    batch: BatchSize = 1
    num_inference_steps: PartialSteps = 50
    guidance_scale: PartialGuidance = 3.0


class Partial(NamedTuple):
    """Samples stopped at random steps.

    Latents, timesteps of their next steps, and the unit noise they came from.
    """

    latents: Float[Tensor, "n ..."]
    timesteps: Float[Tensor, " n"]
    noise: Float[Tensor, "n ..."]


@torch.no_grad()
def partial_samples(
    model: DiffusionModel,
    cond: Conditioning,
    uncond: Conditioning,
    generator: torch.Generator,
    *,
    num_inference_steps: int,
    guidance_scale: float,
) -> Partial:
    """One sample for each prompt of ``cond``, stopped at a random step."""
    n = len(cond)
    # uniform over the steps: every noise level of the schedule is trained alike
    stops: list[int] = torch.randint(num_inference_steps, (n,), generator=generator).tolist()
    # for all samples at once, so that the batch size below changes no number
    noise = model.noise(n, generator)
    parts = []
    for rows in batches(n, model.batch_size):
        part = model.denoise_each(
            noise[rows],
            cond[rows],
            uncond,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            stops=stops[rows],
        )
        parts.append(part)
    # batches -> (n, ...), in the order of the prompts
    latents = torch.cat([part.latents for part in parts])
    return Partial(latents, torch.cat([part.timesteps for part in parts]), noise)


@torch.no_grad()
def outputs(
    model: DiffusionModel, latents: Tensor, timesteps: Float[Tensor, " n"], prompts: Sequence[Conditioning]
) -> list[Tensor]:
    """The denoiser's outputs for several prompts at the same latents, all prompts of a sample in one call.

    As many samples as the model's ``batch_size`` go through it together.
    """
    n = len(prompts)
    parts = []
    for rows in batches(len(latents), model.batch_size):
        # all first prompts, then all second ones ...: (samples, ...) -> (prompts * samples, ...)
        cond = Conditioning.cat([prompt[rows] for prompt in prompts])
        repeated = torch.cat([latents[rows]] * n)
        # (prompts * samples, ...) -> one (samples, ...) for each prompt
        parts.append(model.predict(repeated, timesteps[rows].repeat(n), cond).chunk(n))
    # from one list of prompts a batch to one tensor a prompt
    return [torch.cat(found) for found in zip(*parts, strict=True)]


@dataclass(frozen=True)
class Samples:
    """Partial samples of the concepts.

    Attributes:
        latents, timesteps: where the student is trained.
        cond: the concept's prompt of each sample.
        targets: output that the student should give there.
        noise: unit noise from which the samples came.
    """

    latents: Tensor
    timesteps: Tensor
    cond: Conditioning
    targets: Tensor
    noise: Tensor

    def __getitem__(self, rows: Tensor) -> Samples:
        return Samples(
            self.latents[rows], self.timesteps[rows], self.cond[rows], self.targets[rows], self.noise[rows]
        )


@dataclass
class PartialSampler:
    """Makes partial samples of the concepts, with the output that the student should learn there.

    Attributes:
        config: settings.
        teacher: the original, which makes the targets.
        source: makes the samples.
        cond: the concepts' prompts.
        uncond: the empty prompt.
        generator: of every choice.
        pool: the samples, where they are made once.
    """

    config: PartialSamplesConfig
    teacher: DiffusionModel
    source: DiffusionModel
    cond: Conditioning
    uncond: Conditioning
    generator: torch.Generator
    pool: Samples | None = None

    @classmethod
    def of(
        cls,
        config: PartialSamplesConfig,
        teacher: DiffusionModel,
        student: DiffusionModel,
        concepts: Sequence[Concept],
        generator: torch.Generator,
    ) -> Self:
        """A sampler of concepts by their prompts; makes the pool, if there is one.

        Two calls of the text encoder.
        """
        with torch.no_grad():
            cond = teacher.encode([concept.prompt for concept in concepts])
            uncond = teacher.uncond()
        # "edited": samples as they come while the concept fades
        source = student if config.sample_from == "edited" else teacher
        return cls(config, teacher, source, cond, uncond, generator).filled()

    def filled(self) -> Self:
        """The sampler with its pool, if it has one, of no more samples than the batches can use."""
        config = self.config
        if config.sample_from == "frozen" and config.iterations > 0:
            # with replacement there are at most iterations * batch different draws
            self.pool = self.make(min(config.pool, config.iterations * config.batch))
        return self

    def batch(self) -> Samples:
        """The next ``config.batch`` samples: of the pool, or new ones."""
        if self.pool is None:
            return self.make(self.config.batch)
        return self.pool[
            torch.randint(len(self.pool.latents), (self.config.batch,), generator=self.generator)
        ]

    @torch.no_grad()
    def make(self, n: int) -> Samples:
        """``n`` new samples."""
        config = self.config
        # a concept for each sample, so that all have an equal share on average
        picks = torch.randint(len(self.cond), (n,), generator=self.generator)
        cond = self.cond[picks]
        found = partial_samples(
            self.source,
            cond,
            self.uncond,
            self.generator,
            num_inference_steps=config.num_inference_steps,
            guidance_scale=config.guidance_scale,
        )
        targets = self.targets(found.latents, found.timesteps, picks)
        return Samples(found.latents, found.timesteps, cond, targets, found.noise)

    def targets(self, latents: Tensor, timesteps: Float[Tensor, " n"], picks: Int[Tensor, " n"]) -> Tensor:
        """What the student should return at samples of some of the concepts, given by index.

        One call of the teacher.
        """
        cond = self.cond[picks]
        prompts = [cond, self.uncond.expand(len(cond))]
        concept, uncond = outputs(self.teacher, latents, timesteps, prompts)
        # form A is measured from the empty prompt, form B from the concept itself
        start = uncond if self.config.form == "A" else concept
        return start - self.config.negative_guidance * (concept - uncond)
