"""HiRM (Lee et al., arXiv 2602.19631): the first text layer sends the concept elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from .._util.settings import Settings
from ..knowledge import Target
from ..models import DiffusionModel
from ._shared.generated_data import encoded
from ._shared.prompts import PHRASINGS, Names, names_of, replacement_of
from ._shared.settings import AdamRate, Encoders, Iterations
from ._shared.student import TextStudent
from ._shared.trainer import train
from .base import Change, Eraser, Job, Need


class HiRMConfig(Settings):
    """Settings; defaults are those of the paper's semantic variant for objects."""

    direction: Literal["random", "replacement", "subtract"] = Field(
        "replacement",
        description="Where the prompt embeddings go: to a random unit vector for each position (HiRM-R), to "
        "those of a replacement in the same prompt (HiRM-S), or to their own without the concept's "
        "direction (subtract; HiRM-S for concepts that have no broader category).",
    )
    scale: float = Field(
        1.0,
        ge=0,
        description="Factor of the random vector, of the replacement's embeddings, or of the subtracted "
        "direction.",
    )
    replacement: str = Field(
        "", description="Replacement concept; the first one of the concept's words, if empty."
    )
    n_pairs: int = Field(
        50,
        ge=1,
        le=10_000,
        description="Pairs of prompts, with a word of the concept and with an unrelated one, whose mean "
        "difference is the subtracted direction.",
    )
    words: Names = Field(
        "name", description="Training prompts contain the concept's name only, or its related words too."
    )
    phrasings: bool = Field(
        False, description="Train on each word in several phrasings, not on the word alone."
    )
    layers: int = Field(1, ge=1, le=100, description="Number of first layers that are trained.")
    iterations: Iterations = Field(15, description="Training steps; each sees all training prompts.")
    lr: AdamRate = 5e-5
    encoders: Encoders = "clip"


_RANDOM: dict[str, Any] = {"direction": "random", "scale": 500.0}
_NUDITY: dict[str, Any] = {"words": "related", "lr": 1e-4}

PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-object": {},
    "paper-sd14-style": {"iterations": 30},
    "paper-sd14-nudity": {**_NUDITY, "direction": "subtract", "iterations": 25},
    "paper-sd14-object-random": {**_RANDOM, "iterations": 25},
    "paper-sd14-style-random": {**_RANDOM, "iterations": 40},
    "paper-sd14-nudity-random": {**_RANDOM, **_NUDITY, "iterations": 50},
    "emoji": {"words": "related", "phrasings": True, "iterations": 60, "lr": 1e-4},
}


class WordPair(NamedTuple):
    """A word of the concept and an unrelated one that stand in the same context."""

    context: str
    related: str
    unrelated: str


class HiRM(Eraser[HiRMConfig]):
    """Train the first layers on ``mean |h(prompt) - goal|^2`` over the concept's prompts and text positions.

    ``h`` are the prompt embeddings that the denoiser reads, after the final norm, up to the last padding
    token. The start token is left out: it is the same in every prompt. There is no retain loss; the frozen
    layers keep the rest. All matrices of the trained layers change. Several concepts are trained together,
    each on its own prompts, and so are several text encoders; no loss reads the pooled feature.

    Cost: the goals once; then a call of the text encoder for each iteration. No denoiser.
    """

    name = "hirm"
    paper = "arXiv 2602.19631"
    licence = "none stated"
    needs = frozenset({Need.GRADIENTS, Need.TEXT_ENCODER})
    changes = "text"
    config_type = HiRMConfig
    presets = PRESETS
    default_preset = "paper-sd14-object"

    def change(self, job: Job) -> Change:
        """See :meth:`Eraser.change`.

        Raises:
            InputError: a replacement is needed and there is none.
        """
        config = self.config
        # later layers stay frozen, and keep what they make of other prompts
        student = TextStudent.of(job.model, config.encoders, layers=config.layers)
        prompts: list[str] = []
        parts: list[Tensor] = []
        for target in job.targets:
            # goals and prompts of a concept in the same order: they are compared row by row
            own = self.prompts(target)
            parts.append(self.goals(job.model, target, own, job.generator))
            prompts += own
        # (prompts of all concepts, positions, width)
        goals = torch.cat(parts)
        tokens = job.model.text.main.tokenize(prompts)
        start = job.model.text.main.start
        optimizer = torch.optim.Adam(student.parameters, lr=config.lr)
        student.requires_grad_(True)

        def loss_at(_step: int) -> Tensor:
            # all prompts in every step: (prompts, length, width) -> (prompts, length - start, width)
            return hirm_loss(student.model.encode_tokens(tokens).prompt_embeds[:, start:], goals)

        train(job, student.parameters, optimizer, config.iterations, loss_at)
        student.requires_grad_(False)
        return Change(student.changed(), trained=student.size)

    def prompts(self, target: Target) -> list[str]:
        """The training prompts of a concept."""
        return self._phrased(target, names_of(target, self.config.words))

    def _phrased(self, target: Target, names: Sequence[str]) -> list[str]:
        phrasings = PHRASINGS[target.concept.template_kind] if self.config.phrasings else ("{}",)
        return [phrasing.format(name) for name in names for phrasing in phrasings]

    @torch.no_grad()
    def goals(
        self, model: DiffusionModel, target: Target, prompts: Sequence[str], generator: torch.Generator
    ) -> Float[Tensor, "prompts positions width"]:
        """Where the embeddings of the concept's training prompts should lie, behind the start token."""
        config = self.config
        if config.direction == "random":
            length, width = model.prompt_embeds_shape
            vectors = torch.randn(length - model.text.main.start, width, generator=generator).to(model.device)
            # one unit vector a position, the same for all prompts: (positions, width) -> (prompts, positions,
            # width)
            return (config.scale * F.normalize(vectors, dim=-1)).expand(len(prompts), -1, -1)
        if config.direction == "replacement":
            other = embeds(model, self._phrased(target, [replacement_of(target, config.replacement)]))
            # the replacement has as many phrasings as each word of the concept
            return config.scale * other.repeat(len(prompts) // len(other), 1, 1)
        pairs = word_pairs(target, config.n_pairs, generator)
        related = embeds(model, [pair.context.format(pair.related) for pair in pairs])
        unrelated = embeds(model, [pair.context.format(pair.unrelated) for pair in pairs])
        # (pairs, positions, width) -> (positions, width): a direction of its own for each position
        direction = (related - unrelated).mean(0)
        return embeds(model, prompts) - config.scale * direction


def embeds(model: DiffusionModel, texts: Sequence[str]) -> Float[Tensor, "texts positions width"]:
    """Prompt embeddings behind the start token."""
    return encoded(model, texts).prompt_embeds[:, model.text.main.start :]


def word_pairs(target: Target, n: int, generator: torch.Generator) -> list[WordPair]:
    """Random words of the concept, each with an unrelated word and a context."""
    words = target.words
    names = names_of(target, "related")

    def pick(choices: Sequence[str]) -> str:
        return choices[int(torch.randint(len(choices), (), generator=generator))]

    return [WordPair(pick(words.contexts), pick(names), pick(words.unrelated)) for _ in range(n)]


def hirm_loss(
    embeddings: Float[Tensor, "n positions width"], goals: Float[Tensor, "n positions width"]
) -> Tensor:
    """``|h_t - goal_t|^2``, summed over the width and averaged over prompts and positions."""
    # squared length of each difference, then the mean: (n, positions, width) -> (n, positions) -> scalar
    return (embeddings - goals).square().sum(-1).mean()
