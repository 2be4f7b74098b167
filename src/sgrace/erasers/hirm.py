"""HiRM (Lee et al., arXiv 2602.19631): the text encoder's first layer learns to send the last layer's states of the concept elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from tqdm import tqdm

from ..concept import Concept
from ..erasure import Erasure
from ..knowledge import Knowledge
from ..models import StableDiffusion
from ._shared.prompts import PHRASINGS, names_of, stand_in
from ._shared.student import TextStudent
from .base import Eraser, check_concepts, facts

Direction = Literal["random", "surrogate", "subtract"]


class HiRMConfig(BaseModel):
    """Settings; defaults are those of the paper's semantic variant for objects.

    Attributes:
        direction: the states are sent to a ``random`` unit vector for each text position (HiRM-R), to those of a ``surrogate`` in the
            same prompt (HiRM-S), or to their own without the concept's direction, ``subtract`` (HiRM-S for what has no super-category).
        scale: factor of the random vector or of the surrogate's states; with ``subtract``, of the direction that is taken off.
        surrogate: fixed surrogate; the concept's first one, if empty.
        n_pairs: prompts with a word of the concept and the same with an unrelated one, whose mean difference is the direction.
        words: the prompts name the concept only, or its related words too.
        phrasings: each word stands alone, or in each of the concept's phrasings.
        layers: so many of the first layers are trained.
        iterations, lr: of Adam; an iteration sees all prompts, as an epoch of the paper's few.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    direction: Direction = "surrogate"
    scale: float = Field(1.0, ge=0)
    surrogate: str = ""
    n_pairs: int = Field(50, ge=1, le=10_000)
    words: Literal["name", "related"] = "name"
    phrasings: bool = False
    layers: int = Field(1, ge=1, le=100)
    iterations: int = Field(15, ge=0, le=1_000_000)
    lr: float = Field(5e-5, gt=0, le=1)


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


class HiRM(Eraser[HiRMConfig]):
    """Squared error of the text states of the concept's prompts to where they shall lie; nothing is retained but by the frozen layers.

    The states are those the denoiser reads, after the final norm, from the first token of the prompt to the last padding: the start
    token's is left out, as it is the same in every prompt. All matrices of the layer are trained. Several concepts are trained at once,
    each on its own prompts.

    Cost: the wanted states once; then one call of the text encoder for each iteration. No denoiser.
    """

    name = "hirm"
    paper = "arXiv 2602.19631"
    licence = "none stated"
    trains = "text encoder: its first layers"
    config_type = HiRMConfig
    presets = PRESETS
    default_preset = "paper-sd14-object"

    def erase(self, model: StableDiffusion, concepts: list[Concept], knowledge: list[Knowledge], *, seed: int = 0) -> Erasure:
        """See :meth:`Eraser.erase`.

        Raises:
            InputError: as there, or a surrogate is needed and there is none.
        """
        check_concepts(concepts, knowledge)
        config, started = self.config, time.monotonic()
        student = TextStudent.of(model, config.layers)
        generator = torch.Generator().manual_seed(seed)
        prompts, goals = list[str](), list[Tensor]()
        for concept, words in zip(concepts, knowledge, strict=True):
            own = self.prompts(concept, words)
            goals.append(self.goals(student.teacher, concept, words, own, generator))
            prompts += own
        self._train(student, prompts, torch.cat(goals))
        recipe = facts(self, student.teacher, concepts, knowledge, seed, trained=student.size, started=started)
        return Erasure(recipe, model.pipeline.tokenizer, text_encoder=student.model.text_encoder)

    def prompts(self, concept: Concept, words: Knowledge) -> list[str]:
        """What the concept is trained on."""
        return self._phrased(concept, names_of(concept, words, self.config.words))

    def _phrased(self, concept: Concept, names: list[str]) -> list[str]:
        phrasings = PHRASINGS[concept.kind] if self.config.phrasings else ("{}",)
        return [phrasing.format(name) for name in names for phrasing in phrasings]

    @torch.no_grad()
    def goals(
        self, teacher: StableDiffusion, concept: Concept, words: Knowledge, prompts: list[str], generator: torch.Generator
    ) -> Float[Tensor, "prompts positions width"]:
        """Where the states of the concept's prompts shall lie, behind the start token."""
        config = self.config

        def states(texts: list[str]) -> Tensor:
            return teacher.encode(teacher.tokenize(texts).ids)[:, 1:]

        def pick(choices: Sequence[str]) -> str:
            return choices[int(torch.randint(len(choices), (), generator=generator))]

        if config.direction == "random":
            shape = (teacher.text_length - 1, teacher.text_encoder.config.hidden_size)
            towards = F.normalize(torch.randn(shape, generator=generator), dim=-1)
            return (config.scale * towards).expand(len(prompts), -1, -1)
        if config.direction == "surrogate":
            other = self._phrased(concept, [stand_in(concept, words, config.surrogate)])
            return config.scale * states(other).repeat(len(prompts) // len(other), 1, 1)
        pairs = [(pick(words.contexts), pick(names_of(concept, words, "related")), pick(words.unrelated)) for _ in range(config.n_pairs)]
        shown, without = (states([pair[0].format(pair[which]) for pair in pairs]) for which in (1, 2))
        direction = (shown - without).mean(0)
        return states(prompts) - config.scale * direction

    def _train(self, student: TextStudent, prompts: list[str], goals: Tensor) -> None:
        config, ids = self.config, student.teacher.tokenize(prompts).ids
        optimizer = torch.optim.Adam(student.parameters, lr=config.lr)
        student.requires_grad_(True)
        for _ in tqdm(range(config.iterations), desc="erase", **student.teacher.progress_bar_options):
            loss = hirm_loss(student.model.encode(ids)[:, 1:], goals)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        student.requires_grad_(False)


def hirm_loss(states: Float[Tensor, "n positions width"], goals: Float[Tensor, "n positions width"]) -> Tensor:
    """``|h_t - goal_t|^2``, summed over the width and averaged over prompts and positions."""
    return (states - goals).square().sum(-1).mean()
