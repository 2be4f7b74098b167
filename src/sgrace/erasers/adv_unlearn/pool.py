"""Partial samples on which AdvUnlearn attacks and trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...models import Conditioning, DiffusionModel, PromptSource, Tokens
from .._shared.generated_data import Texts
from .._shared.partial_samples import outputs, partial_samples
from .config import AdvUnlearnConfig


@dataclass(frozen=True)
class Batch:
    """Samples of the concepts, then of retain prompts.

    Attributes:
        source: the prompts that the student reads, with the input embeddings of the trained encoders.
        latents, timesteps: where the denoiser is asked.
        targets: what it should return.
    """

    source: PromptSource
    latents: Float[Tensor, "n ..."]
    timesteps: Float[Tensor, " n"]
    targets: Float[Tensor, "n ..."]

    @classmethod
    def cat(cls, parts: Sequence[Batch]) -> Self:
        """One batch of several."""
        return cls(
            PromptSource.cat([part.source for part in parts]),
            torch.cat([part.latents for part in parts]),
            torch.cat([part.timesteps for part in parts]),
            torch.cat([part.targets for part in parts]),
        )


@dataclass(frozen=True)
class Pool:
    """Partial samples of some prompts, with the original's own outputs there.

    Attributes:
        tokens: of the prompts.
        each: number of samples of a prompt; those of one prompt stand together, in the prompts' order.
        latents, timesteps: of the samples.
        outputs: the original's output for the sample's prompt.
        uncond: the empty prompt.
    """

    tokens: Tokens
    each: int
    latents: Float[Tensor, "n ..."]
    timesteps: Float[Tensor, " n"]
    outputs: Float[Tensor, "n ..."]
    uncond: Conditioning

    @classmethod
    def of(
        cls,
        config: AdvUnlearnConfig,
        model: DiffusionModel,
        texts: Texts,
        prompts: Sequence[str],
        uses: int,
        generator: torch.Generator,
    ) -> Self:
        """A pool of at least one sample of each prompt; else of no more than the settings say or are used."""
        # as many of every prompt, so that a sample is found by arithmetic instead of a table
        each = max(1, min(config.pool, uses) // len(prompts))
        # (prompts, ...) -> (prompts * each, ...): the samples of a prompt stand together
        cond = texts(prompts).repeat_interleave(each)
        uncond = texts.negatives([""])
        found = partial_samples(
            model,
            cond,
            uncond,
            generator,
            num_inference_steps=config.num_inference_steps,
            guidance_scale=config.guidance_scale,
        )
        # what the original gives for the concept: the attack's goal, and a part of the training target
        own = outputs(model, found.latents, found.timesteps, [cond])[0]
        return cls(model.text.main.tokenize(prompts), each, found.latents, found.timesteps, own, uncond)

    def targets(self, model: DiffusionModel, negative_guidance: float) -> Float[Tensor, "n ..."]:
        """``eps('') - g (eps(prompt) - eps(''))`` of the original, at each sample."""
        # at the same latents as the prompt's outputs: their difference is the direction to leave
        uncond = outputs(model, self.latents, self.timesteps, [self.uncond.expand(len(self.latents))])[0]
        return uncond - negative_guidance * (self.outputs - uncond)

    def samples_of(self, prompts: Int[Tensor, " n"], generator: torch.Generator) -> Int[Tensor, " n"]:
        """Index of a random sample of each of some prompts."""
        # first sample of the prompt, and one of the `each` from there
        return prompts * self.each + torch.randint(self.each, prompts.shape, generator=generator)

    def batch(
        self,
        source: PromptSource,
        prompts: Int[Tensor, " n"],
        targets: Float[Tensor, "samples ..."],
        generator: torch.Generator,
    ) -> Batch:
        """A random sample of each of some prompts.

        Args:
            source: what the student reads there.
            prompts: by index.
            targets: what the denoiser should return, one for each sample of the pool.
            generator: of the choices.
        """
        rows = self.samples_of(prompts, generator)
        return Batch(source, self.latents[rows], self.timesteps[rows], targets[rows])
