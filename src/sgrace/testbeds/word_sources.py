"""Words of a concept for a model that brings none: from a file, from WordNet, from a language model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F

from .._util.errors import InputError
from ..concept import Concept
from ..knowledge import ConceptWords, Dropped, llm, offline, read_words
from ..knowledge.nearness import Nearness, too_near
from ..knowledge.sentences import sentence_nearness
from ..models import DiffusionModel

Source = Literal["file", "offline", "llm"]
#: Words that a text encoder reads at once.
BATCH = 64


class Found(NamedTuple):
    """Words of a concept, and what people should know of them.

    Attributes:
        words: guarded.
        dropped: words that were left out, with reasons.
        note: which meaning of the name they are of.
    """

    words: ConceptWords
    dropped: tuple[Dropped, ...]
    note: str


def words_of(
    model: DiffusionModel,
    concept: Concept,
    source: Source = "offline",
    *,
    file: Path | None = None,
    broader: str | None = None,
) -> Found:
    """Words of a concept's space, ordered and guarded by the model's own text encoder.

    Args:
        model: its text encoder says which words are near.
        concept: what is erased.
        source: where the words come from: ``file``, WordNet (``offline``), or the language model that the
            environment names (``llm``).
        file: of the source ``file``.
        broader: a word for what the concept is, of the source ``offline``.

    Raises:
        InputError: the source has no words, or no word would be left to protect.
    """
    scale = text_nearness(model)
    unusable: tuple[Dropped, ...] = ()
    if source == "file":
        if file is None:
            raise InputError("The source `file` needs a file: name it with --words.")
        words = read_words(file)
        note = f"from {file.name}"
    elif source == "llm":
        words, unusable, note = llm.find(concept)
    else:
        scales = [scale, *(one for one in [sentence_nearness()] if one is not None)]
        words, note = offline.find(concept, scales, broader)
    clean, dropped = words.guarded(concept.name)
    if source != "file":
        related = [word for word in clean.related if word != concept.name]
        near = too_near(concept.name, related, clean.near, scale)
        # where that leaves nothing of its kind, the encoder does not tell them apart
        if len(near) < len(clean.near):
            clean, more = clean.guarded(concept.name, near)
            dropped += more
    if not clean.protected:
        raise InputError(f"No unrelated words are left for {concept.name!r}; give more in a file.")
    return Found(clean, (*unusable, *dropped), note)


def text_nearness(model: DiffusionModel) -> Nearness:
    """Cosines of text features in a model's own text encoder."""

    @torch.no_grad()
    def nearness(name: str, words: Sequence[str]) -> list[float]:
        texts = [name, *words]
        batches = [texts[at : at + BATCH] for at in range(0, len(texts), BATCH)]
        # (1 + words, features), the name first
        features = torch.cat([model.text_features(model.encode(batch)) for batch in batches])
        cosines: list[float] = F.cosine_similarity(features[1:], features[:1]).tolist()
        return cosines

    return nearness
