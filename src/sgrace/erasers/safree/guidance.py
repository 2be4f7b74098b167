"""How SAFREE steers the sampling: the first steps read the projected prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...models import Conditioning
from ...models.guidance import Guidance, Sampling, SamplingCost, Scale, Steerable
from ...models.guidance import is_off as guidance_is_off
from .config import SCHEDULE, SAFREEConfig
from .projection import projected_away, variants


@dataclass(kw_only=True, eq=False)
class SAFREESampling(Sampling):
    """The projected prompt embeddings during each sample's first steps, the prompt's own after them.

    Args:
        safe: the projected prompts.
        steps: number of steps that each sample takes with them.
    """

    safe: Conditioning
    steps: Tensor

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the samples only."""
        super().keep(rows)
        self.safe = self.safe[rows]
        self.steps = self.steps[rows]

    def output(self, latents: Tensor, timestep: Tensor, step: int) -> Tensor:
        """See :meth:`Sampling.output`."""
        # each sample by itself: (batch,) -> (batch, 1, 1)
        filtered = (step < self.steps).view(-1, 1, 1)
        prompt_embeds = torch.where(filtered, self.safe.prompt_embeds, self.cond.prompt_embeds)
        return self.guided(latents, timestep, self.cond.with_embeds(prompt_embeds))


class SAFREEGuidance(Guidance[SAFREEConfig]):
    """Holds an orthonormal basis of the concept's span, and a negative prompt, if any.

    The basis is ``span`` ``(rank, width)``.

    What is filtered is read from the source of a conditioning: token rows, or input embeddings in their
    place. Prompt embeddings without a source are sampled as they are.
    """

    name = "safree"
    config_type = SAFREEConfig

    @property
    def tensor_names(self) -> frozenset[str]:
        """See :attr:`Guidance.tensor_names`."""
        return frozenset({"span", "negative"} if self.config.negative else {"span"})

    def filtered_rows(self, model: Steerable, cond: Conditioning) -> list[int]:
        """The prompts that are filtered: those with a source and a token, where any step is filtered."""
        if cond.source is None or self.config.filter_steps == 0:
            return []
        end = cond.source.tokens[model.text.main.name].end
        # an end where the content should start means an empty prompt, which nothing can filter
        return [row for row, place in enumerate(end.tolist()) if place > model.text.main.start]

    def cost(self, model: Steerable, cond: Conditioning, guidance_scale: Scale) -> SamplingCost:
        """As classifier-free guidance, and more of the text encoder.

        The text encoder reads one row for each token of each filtered prompt.
        """
        text_rows = 0
        if rows := self.filtered_rows(model, cond):
            assert cond.source is not None
            end = cond.source.tokens[model.text.main.name].end
            # one variant for each token between start and end
            text_rows = sum(place - model.text.main.start for place in end[rows].tolist())
        return SamplingCost(len(cond) * (1 if guidance_is_off(guidance_scale) else 2), text_rows)

    def sampling(self, model: Steerable, plain: Sampling) -> Sampling:
        """See :meth:`Guidance.sampling`; one call of the text encoder for the variants of the prompts."""
        config = self.config
        cond = plain.cond
        # prompts that are not filtered keep their own embeddings
        safe = cond.prompt_embeds.clone()
        steps = torch.zeros(len(cond), dtype=torch.long, device=safe.device)
        if rows := self.filtered_rows(model, cond):
            found = variants(model, cond[rows], leave_out=config.removal == "left-out")
            projected = projected_away(
                cond.prompt_embeds[rows],
                found,
                self.tensors["span"],
                config.alpha,
                onward=config.reach == "onward",
            )
            safe[rows] = projected.prompt_embeds.to(safe)
            most = config.filter_steps * plain.num_inference_steps / SCHEDULE
            # between 0 and 1, and 1/2 at `middle`: the more a prompt changes, the longer it is filtered
            share = torch.sigmoid(2 * config.slope * (10 * projected.change - config.middle))
            steps[rows] = (most * share).round().long().to(steps.device)
        if "negative" in self.tensors:
            negative = plain.uncond[[0]].with_embeds(self.tensors["negative"].to(safe)[None])
            plain = replace(plain, uncond=negative)
        return SAFREESampling(**vars(plain), safe=cond.with_embeds(safe), steps=steps)
