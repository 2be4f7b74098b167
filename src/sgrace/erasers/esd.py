"""ESD, Erased Stable Diffusion (Gandikota et al., arXiv 2303.07345).

The denoiser learns to steer away from the concept.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ..models import Conditioning
from ._shared.partial_samples import PartialSampler, PartialSamplesConfig, Samples
from ._shared.settings import AdamRate
from ._shared.student import Student
from ._shared.trainer import train
from .base import Change, Eraser, Job

#: The paper's names of what is trained -> sites.
SITES = {
    "x": "text_attention",
    "x-strict": "text_kv",
    "u": "not_text_attention",
    "self-attention": "self_attention",
    "all": "all",
}
SiteName = Annotated[
    Literal["x", "x-strict", "u", "self-attention", "all"],
    Field(
        description="Parameters that are trained: cross-attention (x), its keys and values (x-strict), all "
        "others (u)."
    ),
]


class ESDConfig(PartialSamplesConfig):
    """Settings; defaults are those of the diffusers release for SD 1.4."""

    site: SiteName = "x"
    lr: AdamRate = 5e-5


_COMPVIS_PRESET: dict[str, Any] = {
    "form": "A", "negative_guidance": 1.0, "sample_from": "edited", "iterations": 1000, "lr": 1e-5,
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-style": {**_COMPVIS_PRESET, "site": "x"},
    "paper-sd14-nudity": {**_COMPVIS_PRESET, "site": "u"},
    "paper-sd14-object": {**_COMPVIS_PRESET, "site": "u"},
    "release-2025": {},
    "emoji": {
        "negative_guidance": 3.0,
        "iterations": 150,
        "batch": 8,
        "pool": 96,
        "lr": 2e-4,
        "num_inference_steps": 15,
    },
}


class ESD(Eraser[ESDConfig]):
    """Train the prediction for the concept towards ``eps('') - g (eps(c) - eps(''))`` of the original.

    The weights of the mixture sum to one, so it is exact for noise and for velocity. Of several concepts one
    is picked for each sample. Needs the concepts' names only.

    Cost: the partial samples; then a call of the denoiser for each iteration.
    """

    name = "esd"
    paper = "arXiv 2303.07345"
    licence = "MIT"
    changes = "text_attention"
    config_type = ESDConfig
    presets = PRESETS
    default_preset = "release-2025"

    @property
    def site(self) -> str:
        """The site that the settings name."""
        return SITES[self.config.site]

    def change(self, job: Job) -> Change:
        """See :meth:`Eraser.change`."""
        config = self.config
        student = Student.of(job.model, self.site)
        optimizer = torch.optim.Adam(student.parameters, lr=config.lr)
        # its targets come from the original, so they stay right while the student changes
        sampler = PartialSampler.of(config, job.model, student.model, job.concepts, job.generator)

        def loss_at(step: int) -> Tensor:
            samples = sampler.batch()
            cond = self.condition(student, samples, step, job.generator)
            # compared in the model's own terms, noise or velocity: the target is of the same kind
            output = student.model.predict(samples.latents, samples.timesteps, cond)
            return F.mse_loss(output, samples.targets)

        train(job, student.parameters, optimizer, config.iterations, loss_at)
        return Change(student.changed(), trained=student.size)

    def condition(
        self, student: Student, samples: Samples, step: int, generator: torch.Generator
    ) -> Conditioning:
        """The prompts under which the student is trained: the concept's own."""
        del student, step, generator
        return samples.cond
