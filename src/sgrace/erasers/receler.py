"""Receler (Huang et al., arXiv 2311.17717): adapters after the cross-attention steer away from the concept, however a text hides it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from tqdm import tqdm

from ..concept import Concept
from ..erasure import Erasure
from ..knowledge import Knowledge
from ..models import StableDiffusion
from ..models.adapters import Bottleneck, attention_layers, with_bottlenecks
from ..models.attention import attention_maps, resized, token_mask
from ._shared.partial_samples import PartialSampler, PartialSamplesConfig, Samples
from .base import Eraser, check_concepts, facts


class RecelerConfig(PartialSamplesConfig):
    """Settings; defaults are the published ones.

    Attributes:
        lr: of Adam.
        rank: of the adapters.
        outside_weight: of what the adapters add where the original model does not see the concept.
        mask_threshold: part of the range of attention from which a place counts as the concept's.
        n_adversarial: text states after the concept's tokens that the adversary may set; at most as many as there is room for.
        attack_steps: of the adversary before each step of the adapters; 0 trains on the concept's prompt as it is.
        attack_lr, attack_decay: of the adversary's Adam; the decay is added to the gradient.
    """

    form: Literal["A", "B"] = "A"
    strength: float = Field(1.0, gt=0)
    sample_from: Literal["frozen", "edited"] = "edited"
    iterations: int = Field(500, ge=0, le=1_000_000)
    lr: float = Field(3e-4, gt=0, le=1)
    rank: int = Field(128, ge=1, le=4096)
    outside_weight: float = Field(0.1, ge=0)
    mask_threshold: float = Field(0.1, ge=0, le=1)
    n_adversarial: int = Field(16, ge=1, le=1024)
    attack_steps: int = Field(50, ge=0, le=10_000)
    attack_lr: float = Field(0.1, gt=0)
    attack_decay: float = Field(0.1, ge=0)


PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-nudity": {},  # the release treats all kinds alike
    "paper-sd14-style": {},
    "paper-sd14-object": {},
    "emoji": {
        "sample_from": "frozen", "pool": 96, "iterations": 100, "batch": 8, "num_inference_steps": 15, "rank": 32, "lr": 2e-3,
        "strength": 2.0, "outside_weight": 0.03, "attack_steps": 2,
    },
}  # fmt: skip


class Receler(Eraser[RecelerConfig]):
    """One set of adapters for all concepts; each iteration draws one concept, whose adversary keeps its states from one to the next.

    The adapters are not linear, so no weights can carry them. The release's flag for a later start of the adversary has no effect there;
    here it starts at once, too.

    Cost, for each iteration: one call of the original, ``attack_steps + 1`` of the denoiser with adapters, and those of the partial
    samples, which are each one guided call a step and one more for the targets; two calls of the text encoder for each concept.
    """

    name = "receler"
    paper = "arXiv 2311.17717"
    form = "adapter"
    licence = "MIT"
    trains = "denoiser: adapters of the cross-attention layers' outputs"
    config_type = RecelerConfig
    presets = PRESETS
    default_preset = "paper-sd14-object"

    def erase(self, model: StableDiffusion, concepts: list[Concept], knowledge: list[Knowledge], *, seed: int = 0) -> Erasure:
        """See :meth:`Eraser.erase`; needs the concepts' names only."""
        check_concepts(concepts, knowledge)
        config, started, generator = self.config, time.monotonic(), torch.Generator().manual_seed(seed)
        teacher = model.with_text_encoder(model.text_encoder)  # own count of calls
        unet = teacher.pipeline.unet
        adapters = {name: Bottleneck(width, config.rank, generator) for name, width in attention_layers(unet).items()}
        student = teacher.with_unet(with_bottlenecks(unet, adapters))
        student.calls = teacher.calls
        samplers = [PartialSampler.of(config, teacher, student, [concept], generator) for concept in concepts]
        adversaries = [Adversary(teacher, concept, config, generator) for concept in concepts]
        parameters = [parameter for adapter in adapters.values() for parameter in adapter.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=config.lr)
        for _ in tqdm(range(config.iterations), desc="erase", **model.progress_bar_options):
            pick = int(torch.randint(len(concepts), (), generator=generator))
            samples, adversary = samplers[pick].batch(), adversaries[pick]
            with torch.no_grad(), attention_maps(unet) as maps:
                concept = teacher.predict(samples.latents, samples.timesteps, samples.states)
            mask = token_mask(maps, adversary.tokens.expand(len(concept), -1), config.mask_threshold)
            adversary.attack(student, samples, concept)
            with outputs_of(adapters) as added:
                output = student.predict(samples.latents, samples.timesteps, adversary.states(samples.states).detach())
            loss = F.mse_loss(output, samples.targets) + config.outside_weight * outside(added, mask)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        recipe = facts(self, teacher, concepts, knowledge, seed, trained=sum(p.numel() for p in parameters), started=started)
        tensors = {f"{layer}/{name}": p.detach() for layer, adapter in adapters.items() for name, p in adapter.named_parameters()}
        return Erasure(recipe, None, adapter=tensors, adapter_kind="bottleneck")


class Adversary:
    """Text states after a concept's tokens under which the denoiser with adapters gives what the original gives for the concept.

    Args:
        model: its text encoder's sizes and tokens count.
        concept: whose prompt it stands after.
        config: settings.
        generator: draws the first states, uniform in 0..1.
    """

    def __init__(self, model: StableDiffusion, concept: Concept, config: RecelerConfig, generator: torch.Generator) -> None:
        self.config = config
        self.end = int(model.tokenize([concept.prompt]).end[0])
        n, width = min(config.n_adversarial, model.text_length - self.end), model.text_encoder.config.hidden_size
        self.vectors = torch.rand(n, width, generator=generator)
        self.optimizer = torch.optim.Adam([self.vectors], lr=config.attack_lr, weight_decay=config.attack_decay)
        start = self.end - len(model.content_tokens(concept.name))  # every prompt ends with the name
        places = torch.arange(model.text_length)
        self.tokens = ((places >= start) & (places < self.end))[None]

    def states(self, states: Float[Tensor, "n length width"]) -> Float[Tensor, "n length width"]:
        """States of the concept's prompt with the adversary's own after its tokens, or as they are where it takes no steps."""
        if self.config.attack_steps == 0:
            return states
        rest = states[:, self.end + len(self.vectors) :]
        return torch.cat([states[:, : self.end], self.vectors.expand(len(states), -1, -1), rest], 1)

    def attack(self, student: StableDiffusion, samples: Samples, concept: Tensor) -> None:
        """Go on towards the original's output for the concept."""
        for _ in range(self.config.attack_steps):
            self.vectors.requires_grad_(True)
            output = student.predict(samples.latents, samples.timesteps, self.states(samples.states))
            (self.vectors.grad,) = torch.autograd.grad(F.mse_loss(output, concept), self.vectors)
            self.optimizer.step()
        self.vectors.requires_grad_(False)
        self.vectors.grad = None


@contextmanager
def outputs_of(modules: Mapping[str, nn.Module]) -> Iterator[list[Tensor]]:
    """Within the block, every call of the modules appends its output to the list, with gradient."""
    found: list[Tensor] = []
    hooks = [m.register_forward_hook(lambda _module, _inputs, output: found.append(output)) for m in modules.values()]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def outside(added: Sequence[Float[Tensor, "batch _ _"]], mask: Bool[Tensor, "batch 1 side side"]) -> Tensor:
    """``mean over layers of |e (1 - M)|^2 / |1 - M|``: squares of the additions outside of the mask, by pixel."""
    total = torch.zeros(())
    for layer in added:
        free = 1 - resized(mask, round(layer.shape[1] ** 0.5)).flatten(1)
        total = total + (layer.square().sum(-1) * free).sum() / free.sum().clamp(min=1)
    return total / len(added)
