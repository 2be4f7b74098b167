"""SAFREE (Yoon et al., arXiv 2410.12761): words that lead a prompt to the concept are turned away from it in the first steps."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ..concept import Concept
from ..erasure import Erasure
from ..knowledge import Knowledge
from ..models import StableDiffusion
from ..models.guidance import Guidance, Sampling, Scale
from ._shared.prompts import joined_phrases, names_of
from .base import Eraser, check_concepts, facts

#: Length of the schedule for which ``filter_steps`` is stated.
SCHEDULE = 50
#: Token that takes the place of a masked one: the first of CLIP's vocabulary, an exclamation mark.
MASK = 0
#: Prompts given as embeddings that are remembered at once; those given as tokens are small and all remembered.
MAX_EMBEDDED = 512


class SAFREEConfig(BaseModel):
    """Settings; defaults are those of the paper for nudity.

    Attributes:
        words: the concept's phrases are its name only, or its related words too.
        alpha: a token leads to the concept if the prompt without it is so much farther away than without the others, as a part.
        without: the token is masked by another one, as published, or left out, for encoders that read no mask.
        reach: of a prompt with such tokens, those alone are turned away, as published, or all that follows them too, end and padding
            included: an encoder that reads from left to right has told them everything.
        middle: change of the prompt, ten times ``1 - cos``, at which half of ``filter_steps`` are filtered.
        slope: of that dependence.
        filter_steps: steps that are filtered at most, of a schedule of 50; of another schedule the same part; 0 for none.
        negative: the concept's phrases are the negative prompt, too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    words: Literal["name", "related"] = "related"
    alpha: float = Field(0.01, ge=-1, le=100)
    without: Literal["masked", "left out"] = "masked"
    reach: Literal["triggers", "onward"] = "triggers"
    middle: float = Field(5.333, ge=-100, le=100)
    slope: float = Field(2.5, ge=0, le=1000)
    filter_steps: int = Field(10, ge=0, le=SCHEDULE)
    negative: bool = False


PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-nudity": {},
    "paper-sd14-style": {"words": "name", "middle": 5.5, "slope": 3.5},
    "as_released": {"negative": True},  # its script feeds the phrases as the negative prompt, too, and its figures have both
    "emoji": {
        "alpha": 0.2, "without": "left out", "reach": "onward", "filter_steps": 50, "middle": -10.0, "negative": True,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Prompt:
    """What a row of text states was made of: token ids, the end token's place, and embeddings in the place of the ids' own."""

    ids: Tensor
    end: int
    embeddings: Tensor | None


class SAFREEGuidance(Guidance[SAFREEConfig]):
    """Holds an orthonormal basis of the concept's span, ``span`` ``(rank, width)``, and the states of a negative prompt, if any.

    It remembers which prompt each row of text states came from, and finds it again by the row's content, as states travel alone.
    """

    name = "safree"
    config_type = SAFREEConfig

    def __init__(self, config: SAFREEConfig, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(config, tensors)
        self._prompts: dict[bytes, Prompt] = {}
        self._embedded: OrderedDict[bytes, Prompt] = OrderedDict()

    def note(self, model: StableDiffusion, ids: Tensor, embeddings: Tensor | None, states: Tensor) -> None:
        """Remember the prompts."""
        for i, (key, end) in enumerate(zip(_keys(states), model.ends(ids).tolist(), strict=True)):
            if embeddings is None:
                self._prompts[key] = Prompt(ids[i], end, None)
            else:
                self._embedded[key] = Prompt(ids[i], end, embeddings[i].detach().clone())
        while len(self._embedded) > MAX_EMBEDDED:
            self._embedded.popitem(last=False)

    def prompts(self, states: Tensor) -> dict[int, Prompt]:
        """The prompts to be filtered, by row of text states: those that are known, have a token, and where any step is filtered."""
        found = {i: self._prompts.get(key) or self._embedded.get(key) for i, key in enumerate(_keys(states))}
        return {i: prompt for i, prompt in found.items() if prompt is not None and prompt.end > 1 and self.config.filter_steps}

    def text_rows(self, states: Tensor) -> int:
        """One for each token of each prompt."""
        return sum(prompt.end - 1 for prompt in self.prompts(states).values())

    def sampling(self, model: StableDiffusion, states: Tensor, empty: Tensor, guidance_scale: Scale, num_inference_steps: int) -> Sampling:
        """See :class:`Sampling`; encodes the variants of the prompts."""
        config, safe, steps = self.config, states.clone(), torch.zeros(len(states), dtype=torch.long)
        if prompts := self.prompts(states):
            rows = list(prompts)
            pooled, present = variants(model, list(prompts.values()), leave_out=config.without == "left out")
            onward = config.reach == "onward"
            turned, change = turned_away(states[rows], pooled, present, self.tensors["span"], config.alpha, onward=onward)
            safe[rows] = turned.to(states)
            most = config.filter_steps * num_inference_steps / SCHEDULE
            steps[rows] = (most * torch.sigmoid(2 * config.slope * (10 * change - config.middle))).round().long()
        if "negative" in self.tensors:
            empty = self.tensors["negative"].to(states)[None]
        return SAFREESampling(model, states, empty, guidance_scale, num_inference_steps, safe=safe, steps=steps)


class SAFREESampling(Sampling):
    """The turned text states during each row's first steps, the prompt's own after them."""

    def __init__(self, *roll: Any, safe: Tensor, steps: Tensor) -> None:  # noqa: ANN401  (as of Sampling)
        super().__init__(*roll)
        self.safe, self.steps = safe, steps

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the rows only."""
        super().keep(rows)
        self.safe, self.steps = self.safe[rows], self.steps[rows]

    def output(self, latents: Tensor, timestep: int | Tensor, step: int) -> Tensor:
        """See :meth:`Sampling.output`."""
        return self.guided(latents, timestep, torch.where((step < self.steps).view(-1, 1, 1), self.safe, self.states))


class SAFREE(Eraser[SAFREEConfig]):
    """Nothing is trained; the phrases of all concepts together span what prompts are turned away from.

    A prompt is known by its token ids, of which each sampling encodes as many variants as there are tokens, all in one call; so text
    states that no text encoder made from ids, as those of attacks that move states freely, are sampled as they are. The latent
    re-attention of the paper is left out, as the release never runs it.

    Cost: one call of the text encoder, two with ``negative``; afterwards one more for each batch that is sampled.
    """

    name = "safree"
    paper = "arXiv 2410.12761"
    form = "guidance"
    licence = "none stated"
    trains = "nothing"
    access = "sampling"
    guidance_type = SAFREEGuidance
    config_type = SAFREEConfig
    presets = PRESETS
    default_preset = "paper-sd14-nudity"

    @torch.no_grad()
    def erase(self, model: StableDiffusion, concepts: list[Concept], knowledge: list[Knowledge], *, seed: int = 0) -> Erasure:
        """See :meth:`Eraser.erase`.

        Raises:
            InputError: as there; with ``negative``, the concepts' names are more than the text encoder can read.
        """
        check_concepts(concepts, knowledge)
        config, started = self.config, time.monotonic()
        own = model.with_text_encoder(model.text_encoder)  # own count of calls
        phrases = [p for concept, words in zip(concepts, knowledge, strict=True) for p in names_of(concept, words, config.words)]
        tokens = own.tokenize(list(dict.fromkeys(phrases)))
        tensors = {"span": orthonormal(own.encode(tokens.ids)[torch.arange(len(tokens.end)), tokens.end])}
        if config.negative:
            tensors["negative"] = own.encode(own.tokenize([joined_phrases(own, concepts, knowledge)]).ids)[0]
        recipe = facts(self, own, concepts, knowledge, seed, trained=0, started=started)
        return Erasure(recipe, None, guidance=SAFREEGuidance(config, tensors))


def _keys(states: Tensor) -> list[bytes]:
    """Digest of each row."""
    rows = states.detach().cpu().contiguous().view(len(states), -1).view(torch.uint8).numpy()
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]


@torch.no_grad()
def variants(
    model: StableDiffusion, prompts: Sequence[Prompt], *, leave_out: bool
) -> tuple[Float[Tensor, "n length width"], Bool[Tensor, "n length"]]:
    """The state at the end token of each prompt without its token at each place, 0 where it has none; and where it has tokens.

    One call of the text encoder for all. A token is masked, or left out; then what follows moves up, with padding after it.
    """
    places = torch.arange(model.text_length)
    ends = torch.tensor([prompt.end for prompt in prompts])
    present = (places >= 1) & (places < ends[:, None])
    row, place = present.nonzero(as_tuple=True)
    each = torch.arange(len(row))
    source = torch.where(leave_out & (places >= place[:, None]), places + 1, places).clamp(max=model.text_length - 1)
    ids = torch.stack([prompt.ids for prompt in prompts])[row].gather(1, source)
    embeddings = None
    if any(prompt.embeddings is not None for prompt in prompts):
        own = [model.embed(prompt.ids) if prompt.embeddings is None else prompt.embeddings for prompt in prompts]
        embeddings = torch.stack(own)[row[:, None], source]
    if not leave_out:
        ids[each, place] = MASK
        if embeddings is not None:
            embeddings[each, place] = model.embed(torch.tensor(MASK))
    states = model.encode(ids, embeddings)
    pooled = torch.zeros(*present.shape, states.shape[-1], dtype=states.dtype)
    pooled[row, place] = states[each, ends[row] - int(leave_out)]
    return pooled, present


def turned_away(
    states: Float[Tensor, "n length width"],
    pooled: Float[Tensor, "n length width"],
    present: Bool[Tensor, "n length"],
    span: Float[Tensor, "rank width"],
    alpha: float,
    *,
    onward: bool = False,
) -> tuple[Float[Tensor, "n length width"], Float[Tensor, " n"]]:
    """Text states whose trigger rows are ``(I - P_C) P_I c``, and how far that is from them: ``1 - cos``, mean over the prompt's tokens.

    ``P_C`` projects on the concept's span and ``P_I`` on that of the prompt's variants ``e_i`` without a token. A token is a trigger if
    ``|(I - P_C) e_i|`` is at least ``1 + alpha`` times the mean of the other tokens'; the only token of a prompt always is. With
    ``onward``, rows after the first trigger that are none are ``(I - P_C) c``. In float64.
    """
    states, pooled, span = states.double(), pooled.double(), span.double()
    count = present.sum(1, keepdim=True)
    distance = (pooled - pooled @ span.T @ span).norm(dim=-1)
    others = (distance.sum(1, keepdim=True) - distance) / (count - 1).clamp(min=1)
    trigger = present & ((distance >= (1 + alpha) * others) | (count == 1))
    inside = states @ torch.linalg.pinv(pooled) @ pooled
    turned = torch.where(trigger[..., None], inside, states)
    away = trigger.int().cummax(1).values.bool() if onward else trigger
    turned = torch.where(away[..., None], turned - turned @ span.T @ span, states)
    change = 1 - (F.cosine_similarity(turned, states, dim=-1) * present).sum(1) / count.squeeze(1)
    return turned, change


def orthonormal(rows: Float[Tensor, "n width"]) -> Float[Tensor, "rank width"]:
    """A basis of the span of some rows."""
    _, values, directions = torch.linalg.svd(rows.double(), full_matrices=False)
    return directions[values > 1e-6 * values[0]].to(rows)
