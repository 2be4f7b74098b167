"""SPM (Lyu et al., arXiv 2312.16145): adapters of rank one steer away from the concept, and are anchored to do nothing elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from tqdm import tqdm

from ..concept import Concept
from ..erasure import Erasure
from ..knowledge import Knowledge
from ..models import StableDiffusion
from ..models.adapters import LowRank, adapted
from ._shared.partial_samples import PartialSampler, PartialSamplesConfig, Samples
from .base import Eraser, check_concepts, facts


class SPMConfig(PartialSamplesConfig):
    """Settings, with the release's own values for those of the samples.

    Attributes:
        keep_adapters: keep the adapters beside the weights, scaled for each prompt, and add them to the weights otherwise.
        rank: of the adapters.
        anchor_weight: of the error at anchors.
        n_anchors: random text states at each sample, where the adapters shall change nothing.
        lr: of AdamW; it rises over ``warm_up`` iterations, then falls ``cycles`` times along a cosine.
        warm_up, cycles: of the learning rate.
    """

    form: Literal["A", "B"] = "A"
    strength: float = Field(1.0, gt=0)
    sample_from: Literal["frozen", "edited"] = "edited"
    iterations: int = Field(3000, ge=0, le=1_000_000)
    num_inference_steps: int = Field(30, ge=1, le=1000)
    keep_adapters: bool = False
    rank: int = Field(1, ge=1, le=1024)
    anchor_weight: float = Field(1000.0, ge=0)
    n_anchors: int = Field(4, ge=1, le=1024)
    lr: float = Field(1e-4, gt=0, le=1)
    warm_up: int = Field(500, ge=0, le=1_000_000)
    cycles: int = Field(3, ge=1, le=1000)


PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-object": {"keep_adapters": True},
    "paper-sd14-style": {"keep_adapters": True},
    "paper-sd14-nudity": {"keep_adapters": True},
    "merged": {},
    "emoji": {
        "sample_from": "frozen", "pool": 96, "iterations": 150, "batch": 8, "num_inference_steps": 15, "anchor_weight": 0.3, "n_anchors": 1,
        "lr": 3e-3, "warm_up": 10, "cycles": 1,
    },
}  # fmt: skip


class SPM(Eraser[SPMConfig]):
    """One set of adapters for each concept, trained apart, then added to the weights: a plain denoiser that needs no code of its own.

    With ``keep_adapters`` they stay beside the weights and are scaled for each prompt by the cosine of its text states and the concept's
    (Facilitated Transport). The release takes the share of the concept's tokens in the prompt where that is more, and scales both factors
    of an adapter; here the denoiser sees states only, and the addition is scaled once.

    Cost, for each concept: two denoiser calls for each iteration, and those of the partial samples, which are each one guided call a step
    and one more for the targets; two calls of the text encoder, and one more in all with ``keep_adapters``.
    """

    name = "spm"
    paper = "arXiv 2312.16145"
    form = "plain weights, or an adapter that each prompt scales"
    licence = "Apache-2.0"
    trains = "denoiser: adapters of the linear and convolution layers of its transformers"
    config_type = SPMConfig
    presets = PRESETS
    default_preset = "merged"

    def erase(self, model: StableDiffusion, concepts: list[Concept], knowledge: list[Knowledge], *, seed: int = 0) -> Erasure:
        """See :meth:`Eraser.erase`; needs the concepts' names only."""
        check_concepts(concepts, knowledge)
        started, generator = time.monotonic(), torch.Generator().manual_seed(seed)
        teacher = model.with_text_encoder(model.text_encoder)  # own count of calls
        changes = [self._train(teacher, concept, generator) for concept in concepts]
        trained = sum(parameter.numel() for change in changes for adapter in change.values() for parameter in adapter.parameters())
        unet, adapter = ({}, kept(teacher, concepts, changes)) if self.config.keep_adapters else (merged(teacher, changes), {})
        recipe = facts(self, teacher, concepts, knowledge, seed, trained=trained, started=started)
        return Erasure(recipe, None, unet=unet, adapter=adapter)

    def _train(self, teacher: StableDiffusion, concept: Concept, generator: torch.Generator) -> dict[str, LowRank]:
        """The adapters of one concept, by layer."""
        config, unet = self.config, teacher.pipeline.unet
        layers = [n for n, layer in unet.named_modules() if ".attentions." in n and isinstance(layer, nn.Linear | nn.Conv2d)]
        adapters = {n: LowRank(unet.get_submodule(n), config.rank, generator) for n in layers}
        student = teacher.with_unet(adapted(unet, adapters))
        student.calls = teacher.calls
        sampler = PartialSampler.of(config, teacher, student, [concept], generator)
        optimizer = torch.optim.AdamW([p for adapter in adapters.values() for p in adapter.parameters()], lr=config.lr)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, config))
        for _ in tqdm(range(config.iterations), desc="erase", **teacher.progress_bar_options):
            anchors = anchor_states(sampler.shown, config.batch * config.n_anchors, generator)
            loss = spm_loss(teacher, student, sampler.batch(), anchors, config.anchor_weight)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        return adapters


@torch.no_grad()
def merged(model: StableDiffusion, changes: Sequence[Mapping[str, LowRank]]) -> dict[str, Tensor]:
    """The weights of the layers with every concept's adapters added, by name."""
    layers = {name: model.pipeline.unet.get_submodule(name) for name in changes[0]}
    return {f"{n}.weight": layer.weight + torch.stack([c[n].change() for c in changes]).sum(0) for n, layer in layers.items()}


@torch.no_grad()
def kept(model: StableDiffusion, concepts: Sequence[Concept], changes: Sequence[Mapping[str, LowRank]]) -> dict[str, Tensor]:
    """The adapters as they are, a set for each concept, with the states of the concept's prompt: see :func:`gated`."""
    states = model.encode(model.tokenize([concept.prompt for concept in concepts]).ids)
    tensors = {f"{i}/states": own.clone() for i, own in enumerate(states)}
    for i, change in enumerate(changes):
        for layer, adapter in change.items():
            tensors |= {f"{i}/{layer}/down": adapter.down.detach(), f"{i}/{layer}/up": adapter.up.detach()}
    return tensors


def spm_loss(teacher: StableDiffusion, student: StableDiffusion, samples: Samples, anchors: Tensor, weight: float) -> Tensor:
    """``mean |student(x, concept) - target|^2 + weight mean |student(x, anchor) - teacher(x, anchor)|^2``; a call of each network.

    Args:
        teacher: the original.
        student: the same with adapters.
        samples: ``n`` partial samples with their targets.
        anchors: text states ``(n * k, length, width)``, ``k`` for each sample.
        weight: of the second term.
    """
    n = len(samples.latents)
    k = len(anchors) // n
    latents, timesteps = samples.latents.repeat_interleave(k, 0), samples.timesteps.repeat_interleave(k)
    with torch.no_grad():
        plain = teacher.predict(latents, timesteps, anchors)
    both = student.predict(
        torch.cat([samples.latents, latents]), torch.cat([samples.timesteps, timesteps]), torch.cat([samples.states, anchors])
    )
    return F.mse_loss(both[:n], samples.targets) + weight * F.mse_loss(both[n:], plain)


def anchor_states(concept: Float[Tensor, "1 length features"], n: int, generator: torch.Generator) -> Float[Tensor, "n length features"]:
    """Random text states, 0.8 to 1.2 times as long as the concept's; each is accepted with the chance ``1 - cos`` to the concept."""
    found: list[Tensor] = []
    size = concept.norm()
    while len(found) < n:
        state = torch.randn(concept.shape, generator=generator)
        accepted = torch.rand((), generator=generator) < 1 - F.cosine_similarity(state.flatten(), concept.flatten(), dim=0)
        length = (0.8 + 0.4 * torch.rand((), generator=generator)) * size
        if accepted:
            found.append(state * length / state.norm())
    return torch.cat(found)


def rate(step: int, config: SPMConfig) -> float:
    """Part of the learning rate at an iteration, 0..1."""
    if step < config.warm_up:
        return step / config.warm_up
    progress = (step - config.warm_up) / max(config.iterations - config.warm_up, 1)
    return 0.5 * (1 + math.cos(math.pi * (config.cycles * progress % 1))) if progress < 1 else 0.0
