"""Words of a concept for a model that brings none: from a file, from WordNet, from a language model."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from .._util.errors import InputError
from ..concept import Concept
from ..knowledge import ConceptWords, Dropped, llm, offline, read_words
from ..knowledge.encoder_words import Reader, added
from ..knowledge.nearness import Nearness, too_near
from ..knowledge.sentences import sentence_nearness
from ..knowledge.wordnet import WordNet
from ..models import DiffusionModel
from ..models.word_space import WordSpace

Source = Literal["file", "offline", "llm"]


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
    sentence_model: str | None = None,
) -> Found:
    """Words of a concept's space, ordered, completed and guarded by the model's own text encoder.

    Args:
        model: its text encoder says which words are near.
        concept: what is erased.
        source: where the words come from: ``file``, WordNet (``offline``), or the language model that the
            environment names (``llm``).
        file: of the source ``file``.
        broader: a word for what the concept is, of the source ``offline``.
        sentence_model: folder or hub id of the sentence embeddings that order words too, of the source
            ``offline``; those of the package, if absent and installed.

    Raises:
        InputError: the source has no words, or no word would be left to protect.
    """
    space = WordSpace(model)
    if source == "file":
        if file is None:
            raise InputError("The source `file` needs a file: name it with --words.")
        clean, dropped = read_words(file).guarded(concept.name)
        note = f"from {file.name}"
    elif source == "llm":
        words, unusable, note = llm.find(concept)
        clean, more = _guarded(words, concept.name, space.nearness)
        dropped = (*unusable, *more)
    else:
        known = WordNet.installed()
        sentences = sentence_nearness(sentence_model)
        others = [] if sentences is None else [sentences]
        words, meaning = offline.find(concept, [space.nearness, *others], broader, known)
        note = meaning.note
        clean, dropped = _guarded(words, concept.name, space.nearness)
        if clean.protected:
            reader = Reader(space.nearness, space.neighbours, others)
            clean, doubtful = added(clean, concept.name, known, meaning, reader)
            clean, more = _guarded(clean, concept.name, space.nearness)
            dropped = tuple(dict.fromkeys((*dropped, *doubtful, *more)))
    if not clean.protected:
        raise InputError(f"No unrelated words are left for {concept.name!r}; give more in a file.")
    return Found(clean, dropped, note)


def _guarded(words: ConceptWords, name: str, scale: Nearness) -> tuple[ConceptWords, tuple[Dropped, ...]]:
    """Words that nobody has reviewed: without those that the text encoder puts too near as well."""
    clean, dropped = words.guarded(name)
    related = [word for word in clean.related if word != name]
    near = too_near(name, related, clean.protected, scale)
    # where that leaves nothing of its kind, the encoder does not tell them apart
    if clean.near and near.issuperset(clean.near):
        return clean, dropped
    clean, more = clean.guarded(name, near)
    return clean, (*dropped, *more)
