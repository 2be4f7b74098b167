"""SPM (Lyu et al., arXiv 2312.16145): adapters of rank one steer away from the concept.

They are anchored to do nothing elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from ..concept import Concept
from ..erasure import Adapter
from ..models import Conditioning, DiffusionModel
from ..models.adapters import LowRank, adapted
from ._shared.partial_samples import (
    Form,
    NegativeGuidance,
    PartialSampler,
    PartialSamplesConfig,
    SampleFrom,
    Samples,
)
from ._shared.settings import AdamWRate, Iterations, PartialSteps
from ._shared.trainer import train
from .base import Change, Eraser, Job


class SPMConfig(PartialSamplesConfig):
    """Settings, with the release's own values for those of the samples."""

    form: Form = "A"
    negative_guidance: NegativeGuidance = 1.0
    sample_from: SampleFrom = "edited"
    iterations: Iterations = Field(3000, description="Training steps of each concept.")
    num_inference_steps: PartialSteps = 30
    keep_adapters: bool = Field(
        False,
        description="Keep the adapters beside the weights, scaled for each prompt; otherwise merge them.",
    )
    rank: int = Field(1, ge=1, le=1024, description="Rank of the adapters.")
    retain_weight: float = Field(1000.0, ge=0, description="Weight of the error at random prompt embeddings.")
    n_retain: int = Field(
        4,
        ge=1,
        le=1024,
        description="Random prompt embeddings at each sample, where the adapters should change nothing.",
    )
    lr: AdamWRate = Field(1e-4, description="Highest learning rate of AdamW.")
    warm_up: Iterations = Field(500, description="Iterations over which the learning rate rises.")
    cycles: int = Field(
        3, ge=1, le=1000, description="Times that the learning rate then falls along a cosine."
    )


PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-object": {"keep_adapters": True},
    "paper-sd14-style": {"keep_adapters": True},
    "paper-sd14-nudity": {"keep_adapters": True},
    "merged": {},
    "emoji": {
        "sample_from": "frozen", "pool": 96, "iterations": 150, "batch": 8, "num_inference_steps": 15,
        "retain_weight": 0.3, "n_retain": 1, "lr": 3e-3, "warm_up": 10, "cycles": 1,
    },
}  # fmt: skip


class SPM(Eraser[SPMConfig]):
    """One set of low-rank adapters for each concept, trained apart.

    They are then added to the weights of the transformers.

    With ``keep_adapters`` they stay beside the weights and are scaled for each prompt by the cosine of its
    prompt embeddings and the concept's (Facilitated Transport).

    Differs from the release: it takes the share of the concept's tokens in the prompt where that is more, and
    scales both factors of an adapter; here the denoiser sees prompt embeddings only, and the addition is
    scaled once.

    Cost, for each concept: two denoiser calls for each iteration, and the partial samples; two calls of the
    text encoder, and one more in all with ``keep_adapters``.
    """

    name = "spm"
    paper = "arXiv 2312.16145"
    licence = "Apache-2.0"
    changes = "transformer"
    config_type = SPMConfig
    presets = PRESETS
    default_preset = "merged"

    @property
    def site(self) -> str:
        """The transformers' weights, or adapters beside them."""
        return "adapter" if self.config.keep_adapters else self.changes

    def change(self, job: Job) -> Change:
        """See :meth:`Eraser.change`; needs the concepts' names only."""
        adapters = [self._train(job, concept) for concept in job.concepts]
        layers = [adapter for own in adapters for adapter in own.values()]
        trained = sum(p.numel() for layer in layers for p in layer.parameters())
        if self.config.keep_adapters:
            return Change(
                adapter=Adapter("gated", gated_tensors(job.model, job.concepts, adapters)), trained=trained
            )
        return Change({job.model.denoiser_component: merged(job.model, adapters)}, trained=trained)

    def _train(self, job: Job, concept: Concept) -> dict[str, LowRank]:
        """The adapters of one concept, by layer."""
        config = self.config
        teacher = job.model
        layers = teacher.sites.layers("transformer")
        adapters = {name: LowRank(layer, config.rank, job.generator) for name, layer in layers.items()}
        # the original's weights are shared: only the adapters take memory beside them
        student = teacher.replace(denoiser=adapted(teacher.denoiser, adapters))
        student.calls = teacher.calls
        # one concept at a time: its adapters know nothing of the others'
        sampler = PartialSampler.of(config, teacher, student, [concept], job.generator)
        parameters = [p for adapter in adapters.values() for p in adapter.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=config.lr)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, config))

        def loss_at(_step: int) -> Tensor:
            retained = random_conditioning(sampler.cond, config.batch * config.n_retain, job.generator)
            return spm_loss(teacher, student, sampler.batch(), retained, config.retain_weight)

        train(job, parameters, optimizer, config.iterations, loss_at, after_step=schedule.step)
        return adapters


@torch.no_grad()
def merged(model: DiffusionModel, adapters: Sequence[Mapping[str, LowRank]]) -> dict[str, Tensor]:
    """The weights of the layers with every concept's adapters added, by name."""
    weights = {}
    for name in adapters[0]:
        weight = model.denoiser.get_parameter(f"{name}.weight")
        # the concepts' changes add up: (concepts, *weight) -> (*weight,)
        changes = torch.stack([own[name].change() for own in adapters]).sum(0)
        # in float32, as trained; whoever applies it casts to the model's type
        weights[f"{name}.weight"] = weight.float() + changes.to(weight.device)
    return weights


@torch.no_grad()
def gated_tensors(
    model: DiffusionModel, concepts: Sequence[Concept], adapters: Sequence[Mapping[str, LowRank]]
) -> dict[str, Tensor]:
    """The adapters as they are, a set for each concept.

    Each has the concept's prompt embeddings: see :func:`gated`.
    """
    prompt_embeds = model.encode([concept.prompt for concept in concepts]).prompt_embeds
    # one matrix (length, width) a concept: clones, since tensors that share memory cannot be saved
    tensors = {f"{place}/states": own.clone() for place, own in enumerate(prompt_embeds)}
    for place, own in enumerate(adapters):
        for layer, adapter in own.items():
            tensors[f"{place}/{layer}/down"] = adapter.down.detach()
            tensors[f"{place}/{layer}/up"] = adapter.up.detach()
    return tensors


def spm_loss(
    teacher: DiffusionModel, student: DiffusionModel, samples: Samples, retained: Conditioning, weight: float
) -> Tensor:
    """``mean |student(x, c) - target|^2 + weight mean |student(x, r) - teacher(x, r)|^2``.

    One call of each network.

    Args:
        teacher: the original.
        student: the same with adapters.
        samples: ``n`` partial samples with their targets.
        retained: ``k`` random prompts ``r`` for each sample.
        weight: of the second term.
    """
    n = len(samples.latents)
    k = len(retained) // n
    # each sample with k random prompts: (n, ...) -> (n * k, ...)
    latents = samples.latents.repeat_interleave(k, 0)
    timesteps = samples.timesteps.repeat_interleave(k)
    with torch.no_grad():
        before = teacher.predict(latents, timesteps, retained)
    # the n samples under the concept, then the n * k under random prompts
    both = student.predict(
        torch.cat([samples.latents, latents]),
        torch.cat([samples.timesteps, timesteps]),
        Conditioning.cat([samples.cond, retained]),
    )
    return F.mse_loss(both[:n], samples.targets) + weight * F.mse_loss(both[n:], before)


def random_conditioning(concept: Conditioning, n: int, generator: torch.Generator) -> Conditioning:
    """``n`` random prompts, by :func:`random_embeds`; the pooled path is the concept's."""
    found = random_embeds(concept.prompt_embeds, n, generator)
    return concept.expand(n).with_embeds(found)


def random_embeds(
    concept: Float[Tensor, "1 length width"], n: int, generator: torch.Generator
) -> Float[Tensor, "n length width"]:
    """Random prompt embeddings, 0.8 to 1.2 times as long as the concept's.

    Each is accepted with the chance ``1 - cos`` to the concept.
    """
    own = concept.cpu()
    # of the whole prompt, all positions as one vector
    size = own.norm()
    found: list[Tensor] = []
    while len(found) < n:
        # (1, length, width), one after the other: how many are tried depends on chance
        embeds = torch.randn(own.shape, generator=generator)
        accepted = torch.rand((), generator=generator) < 1 - F.cosine_similarity(
            embeds.flatten(), own.flatten(), dim=0
        )
        # drawn whether the embedding is accepted or not, so that each try takes as many random numbers
        length = (0.8 + 0.4 * torch.rand((), generator=generator)) * size
        if accepted:
            found.append(embeds * length / embeds.norm())
    return torch.cat(found).to(concept)


def rate(step: int, config: SPMConfig) -> float:
    """Share of the learning rate at an iteration, 0..1."""
    if step < config.warm_up:
        return step / config.warm_up
    # at least 1 below the line: the warm-up may be all there is
    progress = (step - config.warm_up) / max(config.iterations - config.warm_up, 1)
    # progress 1 would begin one more cycle: there the rate is 0
    return 0.5 * (1 + math.cos(math.pi * (config.cycles * progress % 1))) if progress < 1 else 0.0
