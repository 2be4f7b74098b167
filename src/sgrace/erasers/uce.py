"""UCE, Unified Concept Editing (Gandikota et al., arXiv 2308.14761): a closed-form edit of the cross-attention keys and values."""

from __future__ import annotations

import random
import time
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ..concept import Concept
from ..erasure import Erasure
from ..knowledge import Knowledge
from ..models import StableDiffusion
from ..models.sites import group_names
from ._shared.closed_form import Wish, edit_matrices
from ._shared.prompts import PHRASINGS, all_states, kept_prompts, last_word_states, names_of, tail_states
from .base import Eraser, check_concepts, facts


class UCEConfig(BaseModel):
    """Settings; defaults are those of the 2025 release.

    Attributes:
        guide: text that the concept shall mean; empty for none in particular.
        rows: ``last`` edits and keeps the state of the last content token; ``tail`` edits all states from there on and keeps all states of
            the kept texts and of the empty text (release of 2023).
        erase_weight, preserve_weight, ridge: weights of the erased and of the kept prompts, and pull towards the original.
        words: erase the concept's name only, or its related words too.
        n_preserve: unrelated texts that are kept.
        preserve: these texts are the first words of the list, or words in contexts, drawn at random.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    guide: str = ""
    rows: Literal["last", "tail"] = "last"
    erase_weight: float = Field(1.0, gt=0)
    preserve_weight: float = Field(1.0, ge=0)
    ridge: float = Field(0.5, gt=0)
    words: Literal["name", "related"] = "name"
    n_preserve: int = Field(0, ge=0, le=100_000)
    preserve: Literal["words", "prompts"] = "words"


PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-object": {},
    "paper-sd14-nudity": {},
    "paper-sd14-style": {"guide": "art", "n_preserve": 1000},
    "release-2023": {"rows": "tail", "guide": " ", "preserve_weight": 0.1},
    "emoji": {"words": "related", "erase_weight": 0.5, "n_preserve": 50, "preserve": "prompts", "rows": "tail"},
}


class UCE(Eraser[UCEConfig]):
    """One linear solve for all key and value matrices; no images, no gradients. Several concepts go into one solve."""

    name = "uce"
    paper = "arXiv 2308.14761"
    licence = "MIT"
    trains = "denoiser: cross-attention keys and values"
    access = "weights"
    config_type = UCEConfig
    presets = PRESETS
    default_preset = "paper-sd14-object"

    def erase(self, model: StableDiffusion, concepts: list[Concept], knowledge: list[Knowledge], *, seed: int = 0) -> Erasure:
        """See :meth:`Eraser.erase`; the result does not depend on the seed."""
        check_concepts(concepts, knowledge)
        started = time.monotonic()
        model = model.with_text_encoder(model.text_encoder)  # own count of calls
        names = group_names(model.pipeline.unet, "cross_attention_kv")
        matrices = [model.pipeline.unet.get_parameter(name).detach() for name in names]
        edited = self.edit(matrices, wishes_of(model, self.config, concepts, knowledge))
        recipe = facts(self, model, concepts, knowledge, seed, trained=sum(m.numel() for m in edited), started=started)
        return Erasure(recipe, None, unet=dict(zip(names, edited, strict=True)))

    def edit(self, matrices: list[Tensor], wishes: list[Wish]) -> list[Tensor]:
        """The edited matrices; the first wish is the one that erases."""
        return edit_matrices(matrices, wishes, self.config.ridge)


def wishes_of(model: StableDiffusion, config: UCEConfig, concepts: list[Concept], knowledge: list[Knowledge]) -> list[Wish]:
    """The concept's phrasings should answer like the guide's, unrelated texts like themselves."""
    erased, guides = [], []
    for concept, words in zip(concepts, knowledge, strict=True):
        names = names_of(concept, words, config.words)
        for phrasing in PHRASINGS[concept.kind]:
            erased += [phrasing.format(name) for name in names]
            guides += [phrasing.format(config.guide) if config.guide.strip() else config.guide] * len(names)
    kept = kept_texts(config, concepts, knowledge)
    if config.rows == "last":
        inputs, like = last_word_states(model, erased), last_word_states(model, guides)
    else:
        inputs, like = tail_states(model, erased, guides)
        kept = ["", *kept]
    wishes = [Wish(inputs, like, config.erase_weight)]
    if kept and config.preserve_weight:
        same = last_word_states(model, kept) if config.rows == "last" else all_states(model, kept)
        wishes.append(Wish(same, same, config.preserve_weight))
    return wishes


def kept_texts(config: UCEConfig, concepts: list[Concept], knowledge: list[Knowledge]) -> list[str]:
    """The texts that stay as they are, at most ``n_preserve``."""
    if config.preserve == "prompts" and config.n_preserve:
        return kept_prompts(concepts, knowledge, config.n_preserve, random.Random(0))
    taken = {concept.name for concept in concepts} | {w for k in knowledge for w in k.related}
    return list(dict.fromkeys(w for k in knowledge for w in k.unrelated if w not in taken))[: config.n_preserve]
