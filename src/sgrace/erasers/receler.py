"""Receler (Huang et al., arXiv 2311.17717): adapters after the cross-attention steer away from the concept.

They are trained to do so under attack, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from ..concept import Concept
from ..erasure import Adapter
from ..models import Conditioning, DiffusionModel
from ..models.adapters import Bottleneck, with_bottlenecks
from ..models.attention import attention_maps, resized, token_mask
from ._shared.adversarial_samples import observe
from ._shared.partial_samples import (
    Form,
    NegativeGuidance,
    PartialSampler,
    PartialSamplesConfig,
    SampleFrom,
    Samples,
)
from ._shared.settings import AdamRate, Iterations
from ._shared.trainer import train
from .base import Change, Eraser, Job, Need


class RecelerConfig(PartialSamplesConfig):
    """Settings; defaults are the published ones."""

    form: Form = "A"
    negative_guidance: NegativeGuidance = 1.0
    sample_from: SampleFrom = "edited"
    iterations: Iterations = 500
    lr: AdamRate = 3e-4
    rank: int = Field(128, ge=1, le=4096, description="Width of the adapters.")
    outside_weight: float = Field(
        0.1, ge=0, description="Weight of what the adapters add where the original does not see the concept."
    )
    mask_threshold: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of the range of attention from which a place counts as the concept's.",
    )
    n_adversarial: int = Field(
        16,
        ge=1,
        le=1024,
        description="Most prompt embeddings after the concept's tokens that the adversary may set.",
    )
    attack_steps: int = Field(
        50,
        ge=0,
        le=10_000,
        description="Steps of the adversary before each training step; 0 for no adversary.",
    )
    attack_lr: float = Field(0.1, gt=0, description="Learning rate of the adversary's Adam.")
    attack_decay: float = Field(
        0.1, ge=0, description="Weight decay of the adversary, added to the gradient."
    )


PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-nudity": {},  # the release treats all kinds alike
    "paper-sd14-style": {},
    "paper-sd14-object": {},
    "emoji": {
        "sample_from": "frozen", "pool": 96, "iterations": 100, "batch": 8, "num_inference_steps": 15,
        "rank": 32, "lr": 2e-3, "negative_guidance": 2.0, "outside_weight": 0.03, "attack_steps": 2,
    },
}  # fmt: skip


class Receler(Eraser[RecelerConfig]):
    """One set of adapters for all concepts, trained towards ESD's target.

    An adversary extends the prompts.

    Each iteration picks one concept, whose adversary keeps its embeddings from one to the next. The adapters
    are not linear, so no weights can carry them. The release's flag for a later start of the adversary has no
    effect there; here it starts at once, too.

    Cost, for each iteration: one call of the original, ``attack_steps + 1`` of the denoiser with adapters,
    and the partial samples; two calls of the text encoder for each concept.
    """

    name = "receler"
    paper = "arXiv 2311.17717"
    licence = "MIT"
    needs = frozenset({Need.GRADIENTS, Need.ATTENTION_MAPS})
    changes = "adapter"
    config_type = RecelerConfig
    presets = PRESETS
    default_preset = "paper-sd14-object"

    def change(self, job: Job) -> Change:
        """See :meth:`Eraser.change`; needs the concepts' names only."""
        config = self.config
        teacher = job.model
        adapters = {
            name: Bottleneck(layer.width, config.rank, job.generator).to(teacher.device)
            for name, layer in teacher.sites.text_attention().items()
        }
        # the original's weights are shared: only the adapters take memory beside them
        student = teacher.replace(denoiser=with_bottlenecks(teacher.sites, adapters))
        student.calls = teacher.calls
        concepts = job.concepts
        samplers = [
            PartialSampler.of(config, teacher, student, [concept], job.generator) for concept in concepts
        ]
        # kept over all iterations: each goes on from where its last attack ended
        adversaries = [Adversary(teacher, concept, config, job.generator) for concept in concepts]
        parameters = [parameter for adapter in adapters.values() for parameter in adapter.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=config.lr)

        def loss_at(_step: int) -> Tensor:
            pick = int(torch.randint(len(concepts), (), generator=job.generator))
            samples = samplers[pick].batch()
            adversary = adversaries[pick]
            with torch.no_grad(), attention_maps(teacher) as maps:
                concept = teacher.predict(samples.latents, samples.timesteps, samples.cond)
            # where the original sees the concept; fixed, without gradient
            mask = token_mask(maps, adversary.tokens.expand(len(concept), -1), config.mask_threshold)
            adversary.attack(student, samples, concept)
            # one sample: the whole batch reads the same vectors behind the same prompt
            observe("prompt_embeds", adversary.extend(samples.cond).prompt_embeds[:1])
            with outputs_of(adapters) as added:
                # the adversary is a constant to the adapters' step
                cond = adversary.extend(samples.cond).detach()
                output = student.predict(samples.latents, samples.timesteps, cond)
            return F.mse_loss(output, samples.targets) + config.outside_weight * outside(added, mask)

        train(job, parameters, optimizer, config.iterations, loss_at)
        tensors = {
            f"{layer}/{part}": parameter.detach()
            for layer, adapter in adapters.items()
            for part, parameter in adapter.named_parameters()
        }
        trained = sum(parameter.numel() for parameter in parameters)
        return Change(adapter=Adapter("bottleneck", tensors), trained=trained)


class Adversary:
    """Prompt embeddings after a concept's tokens that bring the concept back.

    Under them the denoiser with adapters gives the original's output for the concept.

    Args:
        model: its text encoder's sizes and tokens count.
        concept: whose prompt it stands after.
        config: settings.
        generator: draws the first embeddings, uniform in 0..1.
    """

    def __init__(
        self, model: DiffusionModel, concept: Concept, config: RecelerConfig, generator: torch.Generator
    ) -> None:
        main = model.text.main
        self.config = config
        self.end = int(main.tokenize([concept.prompt]).end[0])
        # a long prompt leaves fewer positions behind it
        n = min(config.n_adversarial, main.length - self.end)
        self.vectors = torch.rand(n, model.prompt_embeds_shape[1], generator=generator).to(model.device)
        self.optimizer = torch.optim.Adam(
            [self.vectors], lr=config.attack_lr, weight_decay=config.attack_decay
        )
        start = self.end - len(main.content_tokens(concept.name))  # every prompt ends with the name
        places = torch.arange(main.length, device=model.device)
        self.tokens = ((places >= start) & (places < self.end))[None]

    def extend(self, cond: Conditioning) -> Conditioning:
        """The concept's prompt with the adversary's own embeddings after its tokens.

        As it is where the adversary takes no steps.
        """
        if self.config.attack_steps == 0:
            return cond
        own = cond.prompt_embeds
        # what the adversary does not set: end and padding
        rest = own[:, self.end + len(self.vectors) :]
        # one adversary for the whole batch: (n, width) -> (batch, n, width)
        vectors = self.vectors.expand(len(cond), -1, -1)
        return cond.with_embeds(torch.cat([own[:, : self.end], vectors, rest], 1))

    def attack(self, student: DiffusionModel, samples: Samples, concept: Tensor) -> None:
        """Go on towards the original's output for the concept."""
        for _ in range(self.config.attack_steps):
            self.vectors.requires_grad_(True)
            output = student.predict(samples.latents, samples.timesteps, self.extend(samples.cond))
            # instead of backward(), which would fill the adapters' gradients
            (self.vectors.grad,) = torch.autograd.grad(F.mse_loss(output, concept), self.vectors)
            self.optimizer.step()
        self.vectors.requires_grad_(False)
        self.vectors.grad = None


@contextmanager
def outputs_of(modules: Mapping[str, nn.Module]) -> Iterator[list[Tensor]]:
    """Within the block, every call of the modules appends its output to the list, with gradient."""
    found: list[Tensor] = []
    hooks = [
        m.register_forward_hook(lambda _module, _inputs, output: found.append(output))
        for m in modules.values()
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def outside(added: Sequence[Float[Tensor, "batch _ _"]], mask: Bool[Tensor, "batch 1 side side"]) -> Tensor:
    """``mean over layers of |e (1 - M)|^2 / |1 - M|``: the additions outside of the mask.

    Squares are by place.
    """
    total = torch.zeros((), device=mask.device)
    for layer in added:
        # (batch, places, width): a place counts with all its channels
        free = 1 - resized(mask, round(layer.shape[1] ** 0.5)).flatten(1)
        # (batch, places, width) -> (batch, places); the clamp is for masks that cover everything
        total = total + (layer.float().square().sum(-1) * free).sum() / free.sum().clamp(min=1)
    return total / len(added)
