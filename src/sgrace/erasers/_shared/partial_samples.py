"""Partial samples of concepts, and the outputs by which a denoiser learns to steer away from the concepts there (arXiv 2303.07345)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, Self

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ...concept import Concept
from ...models import StableDiffusion

ROLL_BATCH = 128  # a larger pool is drawn in parts: that many pictures of full size are as much as a large card holds


class PartialSamplesConfig(BaseModel):
    """Settings of the samples; defaults are those of ESD's diffusers release.

    Attributes:
        form: ``A`` steers from the empty prompt, ``B`` from the concept itself; equal if B's ``strength`` is A's plus one.
        strength: how far the target lies on the other side.
        sample_from: partial samples come from the ``frozen`` model (then drawn once, with their targets) or from the ``edited`` one.
        pool: number of partial samples, where they are drawn once.
        iterations, batch: how many batches are asked for, and their rows.
        num_inference_steps, guidance_scale: of the partial samples.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Literal["A", "B"] = "B"
    strength: float = Field(2.0, gt=0)
    sample_from: Literal["frozen", "edited"] = "frozen"
    pool: int = Field(200, ge=1, le=100_000)
    iterations: int = Field(200, ge=0, le=1_000_000)
    batch: int = Field(1, ge=1, le=1024)
    num_inference_steps: int = Field(50, ge=1, le=1000)
    guidance_scale: float = Field(3.0, ge=1, le=50)


@torch.no_grad()
def partial_samples(
    model: StableDiffusion,
    states: Float[Tensor, "n length features"],
    empty: Float[Tensor, "1 length features"],
    generator: torch.Generator,
    *,
    num_inference_steps: int,
    guidance_scale: float,
) -> tuple[Tensor, Int[Tensor, " n"], Tensor]:
    """One sample for each row of text states, stopped at a random step: latents, timesteps, and the unit noise from which they came."""
    n, rows = len(states), torch.arange(len(states)).split(ROLL_BATCH)
    stops: list[int] = torch.randint(num_inference_steps, (n,), generator=generator).tolist()
    noise = torch.randn(n, *model.latent_shape, generator=generator)
    parts = [
        model.roll_each(noise[part], states[part], empty, num_inference_steps, [stops[i] for i in part.tolist()], guidance_scale)
        for part in rows
    ]
    return torch.cat([latents for latents, _ in parts]), torch.cat([timesteps for _, timesteps in parts]), noise


@torch.no_grad()
def outputs(
    model: StableDiffusion, latents: Tensor, timesteps: Int[Tensor, " n"], texts: Sequence[Float[Tensor, "n length features"]]
) -> list[Tensor]:
    """The denoiser's outputs for several texts at the same latents, all texts in one call."""
    n = len(texts)
    parts = [
        model.predict(latents[part].repeat(n, 1, 1, 1), timesteps[part].repeat(n), torch.cat([text[part] for text in texts])).chunk(n)
        for part in torch.arange(len(latents)).split(ROLL_BATCH)
    ]
    return [torch.cat(found) for found in zip(*parts, strict=True)]


@dataclass(frozen=True)
class Samples:
    """Partial samples of the concepts; all with the same number of rows.

    Attributes:
        latents, timesteps: where the student is trained.
        states: text states of the concept's prompt.
        targets: output that the student shall give there.
        noise: unit noise from which the samples came.
    """

    latents: Tensor
    timesteps: Tensor
    states: Tensor
    targets: Tensor
    noise: Tensor

    def rows(self, picks: Tensor) -> Samples:
        """Some of the samples."""
        return Samples(*(getattr(self, f.name)[picks] for f in fields(self)))


@dataclass
class PartialSampler:
    """Draws partial samples of the concepts, with the output that the student shall learn there.

    Attributes:
        config: settings.
        teacher: the original, which makes the targets.
        source: draws the samples.
        shown: text states of the concepts' prompts.
        empty: text states of the empty prompt.
        generator: of every choice.
        pool: the samples, where they are drawn once.
    """

    config: PartialSamplesConfig
    teacher: StableDiffusion
    source: StableDiffusion
    shown: Tensor
    empty: Tensor
    generator: torch.Generator
    pool: Samples | None = None

    @classmethod
    def of(
        cls,
        config: PartialSamplesConfig,
        teacher: StableDiffusion,
        student: StableDiffusion,
        concepts: Sequence[Concept],
        generator: torch.Generator,
    ) -> Self:
        """A sampler of concepts by their prompts; draws the pool, if there is one. Two calls of the text encoder."""
        with torch.no_grad():
            shown = teacher.encode(teacher.tokenize([c.prompt for c in concepts]).ids)
            empty = teacher.encode(teacher.tokenize([""]).ids)
        return cls(config, teacher, student if config.sample_from == "edited" else teacher, shown, empty, generator).filled()

    def filled(self) -> Self:
        """The sampler with its pool, if it has one, of no more samples than the batches can use."""
        config = self.config
        if config.sample_from == "frozen" and config.iterations > 0:
            self.pool = self.draw(min(config.pool, config.iterations * config.batch))
        return self

    def batch(self) -> Samples:
        """The next ``config.batch`` samples: of the pool, or new ones."""
        if self.pool is None:
            return self.draw(self.config.batch)
        return self.pool.rows(torch.randint(len(self.pool.latents), (self.config.batch,), generator=self.generator))

    @torch.no_grad()
    def draw(self, n: int) -> Samples:
        """``n`` new samples, rolled together."""
        config, picks = self.config, torch.randint(len(self.shown), (n,), generator=self.generator)
        states = self.shown[picks]
        latents, timesteps, noise = partial_samples(
            self.source, states, self.empty, self.generator,
            num_inference_steps=config.num_inference_steps, guidance_scale=config.guidance_scale,
        )  # fmt: skip
        return Samples(latents, timesteps, states, self.targets(latents, timesteps, picks), noise)

    def targets(self, latents: Tensor, timesteps: Int[Tensor, " n"], picks: Int[Tensor, " n"]) -> Tensor:
        """What the student shall answer at samples of some of the concepts, given by their places: one call of the teacher."""
        states = self.shown[picks]
        concept, nothing = outputs(self.teacher, latents, timesteps, [states, self.empty.expand_as(states)])
        return (nothing if self.config.form == "A" else concept) - self.config.strength * (concept - nothing)
