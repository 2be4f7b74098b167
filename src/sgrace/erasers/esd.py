"""ESD, Erased Stable Diffusion (Gandikota et al., arXiv 2303.07345): the denoiser learns to steer away from the concept."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from tqdm import tqdm

from ..concept import Concept
from ..knowledge import Knowledge
from ..models import StableDiffusion
from .base import Eraser, Erasure, check_concepts, facts
from .student import Student

GROUPS = {
    "x": "cross_attention",
    "x-strict": "cross_attention_kv",
    "u": "not_cross_attention",
    "self-attention": "self_attention",
    "all": "all",
}


class ESDConfig(BaseModel):
    """Settings; defaults are those of the diffusers release for SD 1.4.

    Attributes:
        group: which parameters are trained.
        form: ``A`` steers from the empty prompt, ``B`` from the concept itself; equal if B's ``strength`` is A's plus one.
        strength: how far the target lies on the other side.
        sample_from: partial samples come from the ``frozen`` model (then drawn once, with their targets) or from the ``edited`` one.
        pool: number of partial samples, where they are drawn once.
        iterations, batch, lr: of Adam.
        num_inference_steps, guidance_scale: of the partial samples.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: Literal["x", "x-strict", "u", "self-attention", "all"] = "x"
    form: Literal["A", "B"] = "B"
    strength: float = Field(2.0, gt=0)
    sample_from: Literal["frozen", "edited"] = "frozen"
    pool: int = Field(200, ge=1, le=100_000)
    iterations: int = Field(200, ge=0, le=1_000_000)
    batch: int = Field(1, ge=1, le=1024)
    lr: float = Field(5e-5, gt=0, le=1)
    num_inference_steps: int = Field(50, ge=1, le=1000)
    guidance_scale: float = Field(3.0, ge=1, le=50)


_COMPVIS: dict[str, Any] = {"form": "A", "strength": 1.0, "sample_from": "edited", "iterations": 1000, "lr": 1e-5}

PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-style": {**_COMPVIS, "group": "x"},
    "paper-sd14-nudity": {**_COMPVIS, "group": "u"},
    "paper-sd14-object": {**_COMPVIS, "group": "u"},
    "release-2025": {},
    "emoji": {"iterations": 150, "batch": 8, "pool": 96, "lr": 2e-4, "num_inference_steps": 15},
}


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


class ESD(Eraser[ESDConfig]):
    """Regression of the model's own output for the concept onto a mixture of the original's outputs.

    The mixture has weights that sum to one, so it is exact for noise and velocity. Of several concepts one is drawn for each sample.
    """

    name = "esd"
    paper = "arXiv 2303.07345"
    licence = "MIT"
    trains = "denoiser: the chosen group"
    config_type = ESDConfig
    presets = PRESETS
    default_preset = "release-2025"

    def erase(self, model: StableDiffusion, concepts: list[Concept], knowledge: list[Knowledge], *, seed: int = 0) -> Erasure:
        """See :meth:`Eraser.erase`; needs the concepts' names only."""
        check_concepts(concepts, knowledge)
        config, started = self.config, time.monotonic()
        trained = Student.of(model, GROUPS[config.group])
        teacher, student = trained.teacher, trained.model
        optimizer = torch.optim.Adam(trained.parameters, lr=config.lr)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            shown = teacher.encode(teacher.tokenize([c.prompt for c in concepts]).ids)
            empty = teacher.encode(teacher.tokenize([""]).ids)
        sampler = _Sampler(config, teacher, student if config.sample_from == "edited" else teacher, shown, empty, generator)
        once = config.sample_from == "frozen" and config.iterations > 0
        pool = sampler.draw(min(config.pool, config.iterations * config.batch)) if once else None
        for step in tqdm(range(config.iterations), desc="erase", **model.progress_bar_options):
            if pool is None:
                samples = sampler.draw(config.batch)
            else:
                samples = pool.rows(torch.randint(len(pool.latents), (config.batch,), generator=generator))
            states = self.condition(student, samples, step, generator)
            loss = F.mse_loss(student.predict(samples.latents, samples.timesteps, states), samples.targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        recipe = facts(self, teacher, concepts, knowledge, seed, trained=trained.size, started=started)
        return Erasure(recipe, None, unet=trained.changed())

    def condition(self, student: StableDiffusion, samples: Samples, step: int, generator: torch.Generator) -> Tensor:
        """Text states under which the student is trained: the concept's prompt as it is."""
        del student, step, generator
        return samples.states


class _Sampler:
    """Draws partial samples of the concepts, with the output that the student shall learn there."""

    def __init__(
        self,
        config: ESDConfig,
        teacher: StableDiffusion,
        source: StableDiffusion,
        shown: Tensor,
        empty: Tensor,
        generator: torch.Generator,
    ) -> None:
        self.config, self.teacher, self.source = config, teacher, source
        self.shown, self.empty, self.generator = shown, empty, generator

    @torch.no_grad()
    def draw(self, n: int) -> Samples:
        """``n`` new samples, all rolled together."""
        config, steps = self.config, self.config.num_inference_steps
        states = self.shown[torch.randint(len(self.shown), (n,), generator=self.generator)]
        stops = torch.randint(steps, (n,), generator=self.generator).tolist()
        noise = torch.randn(n, *self.teacher.latent_shape, generator=self.generator)
        latents, timesteps = self.source.roll_each(noise, states, self.empty, steps, stops, config.guidance_scale)
        text = torch.cat([states, self.empty.expand_as(states)])
        concept, nothing = self.teacher.predict(latents.repeat(2, 1, 1, 1), timesteps.repeat(2), text).chunk(2)
        start = nothing if config.form == "A" else concept
        return Samples(latents, timesteps, states, start - config.strength * (concept - nothing), noise)
