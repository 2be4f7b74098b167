"""ESD, Erased Stable Diffusion (Gandikota et al., arXiv 2303.07345): the denoiser learns to steer away from the concept."""

from __future__ import annotations

import time
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from tqdm import tqdm

from ..concept import Concept
from ..erasure import Erasure
from ..knowledge import Knowledge
from ..models import StableDiffusion
from ._shared.partial_samples import PartialSampler, PartialSamplesConfig, Samples
from ._shared.student import Student
from .base import Eraser, check_concepts, facts

GROUPS = {
    "x": "cross_attention",
    "x-strict": "cross_attention_kv",
    "u": "not_cross_attention",
    "self-attention": "self_attention",
    "all": "all",
}


class ESDConfig(PartialSamplesConfig):
    """Settings; defaults are those of the diffusers release for SD 1.4.

    Attributes:
        group: which parameters are trained.
        lr: of Adam.
    """

    group: Literal["x", "x-strict", "u", "self-attention", "all"] = "x"
    lr: float = Field(5e-5, gt=0, le=1)


_COMPVIS: dict[str, Any] = {"form": "A", "strength": 1.0, "sample_from": "edited", "iterations": 1000, "lr": 1e-5}

PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-style": {**_COMPVIS, "group": "x"},
    "paper-sd14-nudity": {**_COMPVIS, "group": "u"},
    "paper-sd14-object": {**_COMPVIS, "group": "u"},
    "release-2025": {},
    "emoji": {"strength": 3.0, "iterations": 150, "batch": 8, "pool": 96, "lr": 2e-4, "num_inference_steps": 15},
}


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
        sampler = PartialSampler.of(config, teacher, student, concepts, generator)
        for step in tqdm(range(config.iterations), desc="erase", **model.progress_bar_options):
            samples = sampler.batch()
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
