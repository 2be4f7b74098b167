"""What a text encoder adds to the words of WordNet: what it reads as the concept, and what lies near."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any, Literal, NamedTuple

from .concept_words import ConceptWords
from .guard import Dropped
from .nearness import LEAST, Nearness
from .offline import DRAWN, Meaning, kinds_above
from .spelling import holds
from .wordnet import WordNet

#: Words of the encoder's vocabulary, and common nouns of WordNet, that are looked at.
N_VOCABULARY, N_COMMON = 48, 320
#: Kinds of the concept that are words of the vocabulary: of a wide concept there are many.
N_KINDS = 24
#: Words that each list gets at most.
N_ADDED = 8
#: Steps up to what a word and the concept are both kinds of.
STEPS = 2
#: What a word is to the concept in WordNet: a kind of it, what it is a kind of, beside it, or neither.
Relation = Literal["kind", "wider", "beside", "apart"]
KIND = "a kind of it in WordNet, and a word of the text encoder's vocabulary"
DOUBTFUL = "is read as the concept by the text encoder, and nothing else says so: it is not erased either"


@dataclass(frozen=True)
class Reader:
    """How a text encoder reads words.

    Attributes:
        nearness: by pooled text features.
        neighbours: a name, a number, and which words count -> so many words of its vocabulary, by token
            embeddings, nearest first.
        others: sentence embeddings, which must agree before a word is erased.
    """

    nearness: Nearness
    neighbours: Callable[[str, int, Callable[[str], bool]], Sequence[str]]
    others: Sequence[Nearness] = ()


class Added(NamedTuple):
    """Words with those that a text encoder adds, and those that it makes doubtful."""

    words: ConceptWords
    doubtful: tuple[Dropped, ...]


def added(words: ConceptWords, name: str, known: WordNet, meaning: Meaning, reader: Reader) -> Added:
    """Words of the encoder's vocabulary and common nouns that it puts near the concept.

    - Another name of the concept is a neighbour of its token embeddings whose feature is nearer to it than
      those of every protected word and of half of its own words. Sentence embeddings, where there are any,
      must put it before three quarters of the protected words, and WordNet must not know it as something
      else of its kind. It is related.
    - Kinds of it, as deep as WordNet goes, that are words of the vocabulary: the encoder has met them often,
      where most kinds that a dictionary lists are rare. They are related.
    - Other things of its kind, and words that are nearer than half of those, are at risk: protected. None is
      of a harmful concept: what lies near it may be harmful too.

    Args:
        words: guarded ones of WordNet.
        name: of the concept.
        known: where they come from.
        meaning: of the name.
        reader: the text encoder.
    """
    own = (name, *words.related)
    listed = {*own, *words.protected}

    def is_new(word: str) -> bool:
        return word not in listed and not any(holds(word, one) or holds(one, word) for one in own)

    joined = name.replace(" ", "")  # "vangogh" is a token of CLIP's
    above = _Above.of(known, meaning)
    kinds = reader.neighbours(
        name, N_KINDS, lambda word: is_new(word) and above.relation(known, word) == "kind"
    )
    listed |= set(kinds)
    tokens = reader.neighbours(
        name, N_VOCABULARY, lambda word: word == joined or (is_new(word) and known.has(word))
    )
    common = [one.word for one in known.counts[: 8 * N_COMMON] if one.field in DRAWN and is_new(one.word)]
    pool = list(dict.fromkeys((*tokens, *common[:N_COMMON])))
    protected = words.protected
    everything = (*words.related, *protected, *pool)
    cosines = dict(zip(everything, reader.nearness(name, everything), strict=True))
    witnesses = [cosines[word] for word in words.related if word != name]
    as_concept = max(cosines[word] for word in protected)
    if len(witnesses) >= LEAST:
        as_concept = max(as_concept, median(witnesses))
    beside = [cosines[word] for word in words.near]
    at_risk = median(beside) if len(beside) >= LEAST else as_concept
    agreed = _agreed(name, protected, [word for word in tokens if cosines[word] > as_concept], reader.others)

    found: dict[str, dict[str, str]] = {"related": {}, "near": {}, "cooccurring": {}}
    doubtful = []
    for word in sorted(pool, key=lambda one: -cosines[one]):
        relation = above.relation(known, word)
        cosine = f"cosine {cosines[word]:.2f} in the text encoder"
        if relation == "kind" and cosines[word] >= at_risk:
            found["related"][word] = f"a kind of it in WordNet, {cosine}"
        elif relation == "apart" and word in agreed:
            found["related"][word] = f"read as the concept: {cosine}, a near token"
        elif relation == "apart" and cosines[word] > as_concept:
            doubtful.append(Dropped(word, DOUBTFUL))
        elif cosines[word] >= at_risk and words.kind != "harmful":
            field = "near" if relation == "beside" else "cooccurring"
            kind = "of a like kind in WordNet, " if relation == "beside" else "nearer than half of its kind: "
            found[field][word] = kind + cosine
    new = {field: dict(list(each.items())[:N_ADDED]) for field, each in found.items()}
    new["related"] = {**dict.fromkeys(kinds, KIND), **new["related"]}
    update: dict[str, Any] = {field: (*getattr(words, field), *each) for field, each in new.items()}
    update["reasons"] = {**words.reasons, **new["related"], **new["near"], **new["cooccurring"]}
    more = words.model_copy(update=update)
    return Added(more, tuple(doubtful[:N_ADDED]))


def _agreed(
    name: str, protected: Sequence[str], words: Sequence[str], scales: Sequence[Nearness]
) -> set[str]:
    """Words that every scale puts before three quarters of the protected words."""
    left = list(words)
    for scale in scales:
        cosines = scale(name, [*protected, *left])
        limit = quantiles(cosines[: len(protected)], n=4)[-1] if len(protected) > 1 else cosines[0]
        left = [word for word, cosine in zip(left, cosines[len(protected) :], strict=True) if cosine > limit]
    return set(left)


class _Above(NamedTuple):
    """Places in WordNet's file: of the concept, of everything above it, of its kinds."""

    own: set[int]
    wider: set[int]
    kinds: set[int]

    @classmethod
    def of(cls, known: WordNet, meaning: Meaning) -> _Above:
        own = meaning.own
        wider = {one.offset for kind in meaning.kinds for one in (kind, *known.above(kind))}
        return cls(set() if own is None else {own.offset}, wider, kinds_above(known, meaning, STEPS))

    def relation(self, known: WordNet, word: str) -> Relation:
        """By the commonest meaning of a word; what is no noun stands apart."""
        sense = next(iter(known.senses(word)), None)
        if sense is None:
            return "apart"
        above = {one.offset for one in known.above(sense)}
        if self.own & {sense.offset, *above}:
            return "kind"
        if sense.offset in self.wider:
            return "wider"
        return "beside" if self.kinds & above else "apart"
