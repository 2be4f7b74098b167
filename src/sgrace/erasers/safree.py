"""SAFREE (Yoon et al., arXiv 2410.12761): trigger tokens are projected away from the concept.

In the first steps of sampling only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from .._util.settings import Settings
from ..models import Conditioning, Tokens
from ..models.guidance import Guidance, Sampling, SamplingCost, Scale, Steerable
from ..models.guidance import is_off as guidance_is_off
from ._shared.prompts import Names, joined_phrases, names_of
from .base import Change, Eraser, Job, Need

#: Length of the schedule for which ``filter_steps`` is stated.
SCHEDULE = 50
#: Token that takes the place of a masked one: the first of CLIP's vocabulary, an exclamation mark.
MASK = 0


class SAFREEConfig(Settings):
    """Settings; defaults are those of the paper for nudity."""

    words: Names = Field(
        "related", description="The concept's phrases: its name only, or its related words too."
    )
    alpha: float = Field(
        0.01,
        ge=-1,
        le=100,
        description="Margin of the trigger test. A token is a trigger if removing it moves the prompt at "
        "least 1 + alpha times as far from the concept's subspace as removing an average other token.",
    )
    removal: Literal["masked", "left-out"] = Field(
        "masked",
        description="Remove a token by masking it, as published, or by leaving it out, for encoders that "
        "read no mask.",
    )
    reach: Literal["triggers", "onward"] = Field(
        "triggers",
        description="Project the trigger tokens only, as published, or all that follows them too, end and "
        "padding included: a causal encoder has passed the triggers' meaning on to them.",
    )
    middle: float = Field(
        5.333,
        ge=-100,
        le=100,
        description="Change of the prompt, 10 (1 - cos), at which half of filter_steps are filtered.",
    )
    slope: float = Field(2.5, ge=0, le=1000, description="Slope of that dependence.")
    filter_steps: int = Field(
        10,
        ge=0,
        le=SCHEDULE,
        description="Most steps that are filtered, of a schedule of 50; scaled to others; 0 for none.",
    )
    negative: bool = Field(False, description="Use the concept's phrases as the negative prompt, too.")


PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-nudity": {},
    "paper-sd14-style": {"words": "name", "middle": 5.5, "slope": 3.5},
    # its script feeds the phrases as the negative prompt, and its figures have both
    "as-released": {"negative": True},
    "emoji": {
        "alpha": 0.2, "removal": "left-out", "reach": "onward", "filter_steps": 50, "middle": -10.0,
        "negative": True,
    },
}  # fmt: skip


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
        return [row for row, place in enumerate(end.tolist()) if place > 1]

    def cost(self, model: Steerable, cond: Conditioning, guidance_scale: Scale) -> SamplingCost:
        """As classifier-free guidance, and more of the text encoder.

        The text encoder reads one row for each token of each filtered prompt.
        """
        text_rows = 0
        if rows := self.filtered_rows(model, cond):
            assert cond.source is not None
            end = cond.source.tokens[model.text.main.name].end
            text_rows = sum(place - 1 for place in end[rows].tolist())
        return SamplingCost(len(cond) * (1 if guidance_is_off(guidance_scale) else 2), text_rows)

    def sampling(self, model: Steerable, plain: Sampling) -> Sampling:
        """See :meth:`Guidance.sampling`; one call of the text encoder for the variants of the prompts."""
        config = self.config
        cond = plain.cond
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
            share = torch.sigmoid(2 * config.slope * (10 * projected.change - config.middle))
            steps[rows] = (most * share).round().long().to(steps.device)
        if "negative" in self.tensors:
            negative = plain.uncond[[0]].with_embeds(self.tensors["negative"].to(safe)[None])
            plain = replace(plain, uncond=negative)
        return SAFREESampling(**vars(plain), safe=cond.with_embeds(safe), steps=steps)


class Variants(NamedTuple):
    """Prompts without one of their tokens each.

    Attributes:
        pooled: the embedding at the end token without the token at each position, 0 where the prompt has
            none.
        present: where the prompt has tokens.
    """

    pooled: Float[Tensor, "n length width"]
    present: Bool[Tensor, "n length"]


@torch.no_grad()
def variants(model: Steerable, cond: Conditioning, *, leave_out: bool) -> Variants:
    """Encode each prompt once for each of its tokens, without that token.

    All in one call of the text encoder.

    A token is masked, or left out; then what follows moves up, with padding after it.
    """
    assert cond.source is not None
    main = model.text.main
    tokens = cond.source.tokens[main.name]
    places = torch.arange(main.length, device=tokens.ids.device)
    present = (places >= 1) & (places < tokens.end[:, None])
    row, place = present.nonzero(as_tuple=True)  # one variant for each token of each prompt
    each = torch.arange(len(row), device=row.device)
    moved = torch.where(leave_out & (places >= place[:, None]), places + 1, places).clamp(max=main.length - 1)
    ids = tokens.ids[row].gather(1, moved)
    embeddings = cond.source.embeddings.get(main.name)
    if embeddings is not None:
        embeddings = embeddings.detach()[row[:, None], moved]
    if not leave_out:
        ids[each, place] = MASK
        if embeddings is not None:
            embeddings[each, place] = main.embed(torch.tensor(MASK))
    end = tokens.end[row] - int(leave_out)
    at_end = model.encode_tokens(Tokens(ids, end), embeddings).at(end)
    pooled = torch.zeros(*present.shape, at_end.shape[-1], dtype=at_end.dtype, device=at_end.device)
    pooled[row, place] = at_end
    return Variants(pooled, present)


class Projected(NamedTuple):
    """Projected prompt embeddings, and how far they are from the prompt's own.

    The distance is ``1 - cos``, the mean over the prompt's tokens.
    """

    prompt_embeds: Float[Tensor, "n length width"]
    change: Float[Tensor, " n"]


def projected_away(
    prompt_embeds: Float[Tensor, "n length width"],
    without: Variants,
    span: Float[Tensor, "rank width"],
    alpha: float,
    *,
    onward: bool = False,
) -> Projected:
    """Prompt embeddings whose trigger tokens are ``(I - P_C) P_I c``; in float64 on the CPU.

    ``P_C`` projects on the concept's span and ``P_I`` on that of the prompt's variants ``e_i`` without a
    token. A token is a trigger if ``|(I - P_C) e_i|`` is at least ``1 + alpha`` times the mean of the other
    tokens'; the only token of a prompt always is. With ``onward``, positions after the first trigger that are
    none are ``(I - P_C) c``.
    """
    embeds = prompt_embeds.detach().cpu().double()
    pooled = without.pooled.cpu().double()
    basis = span.cpu().double()
    present = without.present.cpu()
    count = present.sum(1, keepdim=True)
    distance = (pooled - pooled @ basis.T @ basis).norm(dim=-1)
    others = (distance.sum(1, keepdim=True) - distance) / (count - 1).clamp(min=1)
    trigger = present & ((distance >= (1 + alpha) * others) | (count == 1))
    inside = embeds @ torch.linalg.pinv(pooled) @ pooled
    projected = torch.where(trigger[..., None], inside, embeds)
    away = trigger.int().cummax(1).values.bool() if onward else trigger
    projected = torch.where(away[..., None], projected - projected @ basis.T @ basis, embeds)
    cosine = F.cosine_similarity(projected, embeds, dim=-1)
    return Projected(projected, 1 - (cosine * present).sum(1) / count.squeeze(1))


def orthonormal(rows: Float[Tensor, "n width"]) -> Float[Tensor, "rank width"]:
    """A basis of the span of some rows."""
    _, values, directions = torch.linalg.svd(rows.cpu().double(), full_matrices=False)
    basis: Tensor = directions[values > 1e-6 * values[0]]
    return basis.to(rows)


class SAFREE(Eraser[SAFREEConfig]):
    """Projection of prompts away from the span of the concepts' phrases; nothing is trained.

    Differs from the release: the paper's latent re-attention is left out, as the release never runs it.

    Cost: one call of the text encoder, two with ``negative``; afterwards one more for each batch that is
    sampled, of one row for each token of each prompt.
    """

    name = "safree"
    paper = "arXiv 2410.12761"
    licence = "none stated"
    needs = frozenset({Need.SAMPLING})
    changes = "guidance"
    guidance_type = SAFREEGuidance
    config_type = SAFREEConfig
    presets = PRESETS
    default_preset = "paper-sd14-nudity"

    @torch.no_grad()
    def change(self, job: Job) -> Change:
        """See :meth:`Eraser.change`.

        Raises:
            InputError: with ``negative``, the concepts' names are more than the text encoder can read.
        """
        model = job.model
        phrases = list(
            dict.fromkeys(p for target in job.targets for p in names_of(target, self.config.words))
        )
        end = model.text.main.tokenize(phrases).end
        tensors = {"span": orthonormal(model.encode(phrases).at(end))}
        if self.config.negative:
            tensors["negative"] = model.encode([joined_phrases(model, job.targets)]).prompt_embeds[0]
        return Change(guidance=SAFREEGuidance(self.config, tensors))
