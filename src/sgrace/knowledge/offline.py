"""Words of a concept from WordNet, ordered by text encoders; needs no network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .._util.errors import InputError
from ..concept import Concept, Kind
from .concept_words import Candidate, ConceptWords
from .nearness import Nearness, nearest_first
from .spelling import holds, parts
from .wordnet import CHILDREN, FORMS, PARENTS, PARTS, Synset, WordNet

SOURCE = "WordNet 3.0"
#: Fields of nouns that can be drawn: animals, artefacts, the body, food, objects of nature, persons, plants.
DRAWN = (5, 6, 8, 13, 17, 18, 20)
#: Fields whose common words are protected whatever the concept is.
EVERYDAY = (5, 6, 13, 17, 18, 20)
N_RELATED, N_NEAR, N_COOCCURRING, N_UNRELATED, N_CANDIDATES = 24, 24, 12, 60, 12
#: Fewer words of its kind than this, and those of the next wider kind are taken too.
LEAST_NEAR = 8
#: Steps up to wider kinds; after these everything is a thing.
STEPS_UP = 3
#: Letters that a word and its other forms begin with.
STEM = 3
#: Letters of a word of which longer ones are made; shorter ones begin others by chance: "car", "carpet".
LONG = 5
ARTIST_CONTEXTS = ("a painting by {}", "a picture in the style of {}", "art by {}", "{}")


@dataclass(frozen=True)
class Meaning:
    """What WordNet knows of a concept.

    Attributes:
        own: the meaning of its name; None where WordNet does not know it.
        kinds: what it is a kind of, directly.
        note: what was chosen, for people.
    """

    own: Synset | None
    kinds: tuple[Synset, ...]
    note: str

    @property
    def kind(self) -> str:
        """What it is a kind of, in a word."""
        return self.kinds[0].words[0] if self.kinds else "thing"


class Looked(NamedTuple):
    """Words of a concept in WordNet, and the meaning of its name that they are of."""

    words: ConceptWords
    meaning: Meaning


def find(
    concept: Concept,
    scales: Sequence[Nearness] = (),
    broader: str | None = None,
    wordnet: WordNet | None = None,
) -> Looked:
    """Words of a concept's space, and which meaning of its name they are of.

    Args:
        concept: what is erased.
        scales: text encoders that order the words; by frequency in English, if there are none.
        broader: a word for what the concept is, which chooses among its meanings, or stands for an
            unknown name.
        wordnet: where to look; what is installed, if absent.

    Raises:
        InputError: WordNet is not installed, or knows neither the name nor what it is.
    """
    known = wordnet or WordNet.installed()
    meaning = _meaning(known, concept, broader)
    is_art = concept.kind == "style" or _is_artist(known, meaning)
    names = _related(known, concept.name, meaning, scales, is_art=is_art)
    related = tuple(names)
    own = (concept.name, *related)
    # what is near to a harmful concept may be harmful too
    near = () if concept.kind == "harmful" else _near(known, meaning, own, scales, concept.name)
    parts_of_it = _cooccurring(known, meaning, own)
    cooccurring = tuple(parts_of_it)
    steps = STEPS_UP if concept.kind == "harmful" else 1
    unrelated = _unrelated(known, kinds_above(known, meaning, steps), (*own, *near))
    is_drawn = is_art or meaning.own is None or meaning.own.field in DRAWN
    words = ConceptWords(
        concept=concept.name,
        kind=concept.kind,
        source=SOURCE,
        related=related,
        near=near,
        cooccurring=cooccurring,
        unrelated=unrelated,
        # other states, such as "dryness" beside "nudity", cannot be drawn in its place
        replacements=_candidates(meaning, near if is_drawn else (), (*cooccurring, *unrelated)),
        contexts=ARTIST_CONTEXTS if is_art else None,
        reasons={
            **dict.fromkeys(unrelated, "a common thing of another kind, in WordNet"),
            **parts_of_it,
            **dict.fromkeys(near, f"another {meaning.kind}, in WordNet"),
            **names,
        },
    )
    return Looked(words, meaning)


def _meaning(known: WordNet, concept: Concept, broader: str | None) -> Meaning:
    """The meaning of the name; where it is unknown, that of what it is."""
    senses = known.senses(concept.name)
    if broader:
        senses = [one for one in senses if any(broader in above.words for above in known.above(one))]
    if senses:
        own = min(senses, key=lambda one: _order(one, concept.kind))
        note = f"{concept.name!r} is taken for: {own.definition}"
        others = len(known.senses(concept.name)) - 1
        more = f" ({others} other meanings; --broader chooses)" if others and not broader else ""
        return Meaning(own, tuple(known.follow(own, PARENTS)), note + more)
    *first, last = parts(concept.name) or [""]
    kind_word = broader or ("painter" if concept.kind == "style" else last if first else "")
    kinds = known.senses(kind_word)
    if not kinds:
        what = f"{kind_word!r} either" if broader else "what it is"
        raise InputError(
            f"WordNet does not know {concept.name!r}, nor {what}: give its words with --words FILE, "
            f"its kind with --kind style, or `sgrace knowledge {concept.name!r} --broader WORD --out FILE`."
        )
    kind = min(kinds, key=lambda one: _order(one, "object"))
    return Meaning(
        None, (kind,), f"WordNet does not know {concept.name!r}; it is taken for a {kind.words[0]}"
    )


def _order(sense: Synset, kind: Kind | None) -> tuple[bool, bool]:
    """What the name means in a prompt comes first; equal ones stay in the order of frequency."""
    is_name = any(one.symbol == "@i" for one in sense.pointers)
    if kind == "style":
        return sense.field != 18, False
    # "crane" is a machine before it is a poet; "church" a building before it is a creed
    return (False, False) if kind == "harmful" else (sense.field not in DRAWN, is_name)


def _is_artist(known: WordNet, meaning: Meaning) -> bool:
    own = meaning.own
    return own is not None and own.field == 18 and any("artist" in one.words for one in known.above(own))


def _related(
    known: WordNet, name: str, meaning: Meaning, scales: Sequence[Nearness], *, is_art: bool
) -> dict[str, str]:
    """Other names, forms of the word, kinds of it; for an artist, the art. Each with the reason."""
    found = {name: "the concept's name"}

    def add(words: Iterable[str], reason: str) -> None:
        for word in words:
            found.setdefault(word, reason)

    if is_art:
        add(parts(name)[-1:] if meaning.own is None else [], "the last word of the name")
        add([f"{name} painting", f"painting by {name}", f"{name} style"], "the art")
    if meaning.own is not None:
        others = [word for word in meaning.own.words if _means(known, word, meaning.own)]
        add(others, "another name of it, in WordNet")
        forms = _best_words(known, known.follow(meaning.own, FORMS))
        # "nude" is a form of "nudity"; "raw", which is one too, means more than that
        stems = {one[:STEM] for one in others}
        add([word for word in forms if word[:STEM] in stems], "another form of it, in WordNet")
        kinds = known.follow(meaning.own, CHILDREN)
        deeper = [below for one in kinds for below in known.follow(one, CHILDREN)]
        kind_words = _distinct(_best_words(known, [*kinds, *deeper]))
        add(nearest_first(name, kind_words, scales), "a kind of it, in WordNet")
    return dict(list(found.items())[:N_RELATED])


def _near(
    known: WordNet, meaning: Meaning, own: Sequence[str], scales: Sequence[Nearness], name: str
) -> tuple[str, ...]:
    """Other kinds of what it is a kind of; of the next wider kind, where these are few."""
    levels = list(meaning.kinds)
    # beside a person or a character of a name stand others, not kinds of persons
    is_name = meaning.own is None or any(one.symbol == "@i" for one in meaning.own.pointers)
    symbols = ("~i",) if is_name else CHILDREN
    found: list[str] = []
    for _ in range(STEPS_UP):
        below = [one for kind in levels for one in known.follow(kind, symbols)]
        # the nearer kinds first, in each the commoner word
        here = sorted(_best_words(known, below), key=lambda word: -known.frequencies.get(word, 0))
        found += [word for word in here if _is_other(word, own)]
        if len(set(found)) >= LEAST_NEAR:
            break
        if symbols != CHILDREN:
            symbols = CHILDREN
        else:
            levels = [above for kind in levels for above in known.follow(kind, PARENTS)]
    return nearest_first(name, _distinct(found), scales)[:N_NEAR]


def _cooccurring(known: WordNet, meaning: Meaning, own: Sequence[str]) -> dict[str, str]:
    """Its parts, what it is a part of, and things that its definition names. Each with the reason."""
    if meaning.own is None:
        return {}
    drawn = {one.word for one in known.counts if one.field in DRAWN}
    named = [word for word in parts(meaning.own.definition) if word in drawn]
    found = {
        **dict.fromkeys(_best_words(known, known.follow(meaning.own, PARTS)), "a part of it, in WordNet"),
    }
    found |= {word: "in its definition in WordNet" for word in named if word not in found}
    return dict([pair for pair in found.items() if _is_other(pair[0], own)][:N_COOCCURRING])


def kinds_above(known: WordNet, meaning: Meaning, steps: int) -> set[int]:
    """What it is a kind of, so many steps up: places in WordNet's file."""
    levels = list(meaning.kinds)
    found: set[int] = set()
    for _ in range(steps):
        found |= {one.offset for one in levels}
        levels = [above for kind in levels for above in known.follow(kind, PARENTS)]
    return found


def _unrelated(known: WordNet, kinds: set[int], taken: Sequence[str]) -> tuple[str, ...]:
    """The commonest things of every field in turn that are not of these kinds."""
    by_field: list[list[str]] = []
    each = N_UNRELATED // len(EVERYDAY)
    for field in EVERYDAY:
        words: list[str] = []
        for one in known.counts:
            if one.field == field and len(one.word) > 2 and _is_other(one.word, taken):
                sense = known.senses(one.word)[0]
                is_name = any(pointer.symbol == "@i" for pointer in sense.pointers)
                if not is_name and not kinds & {sense.offset, *(up.offset for up in known.above(sense))}:
                    words.append(one.word)
            if len(words) == each:
                break
        by_field.append(words)
    return _distinct([word for words in by_field for word in words])


def _candidates(meaning: Meaning, near: Sequence[str], others: Sequence[str]) -> tuple[Candidate, ...]:
    """Other things of its kind; where these are few, things of other kinds too."""
    found = [Candidate(word=word, reason=f"another {meaning.kind}") for word in near[:N_CANDIDATES]]
    if len(near) < LEAST_NEAR:
        found += [Candidate(word=word, reason="of another kind") for word in others]
    return tuple(found)


def _best_words(known: WordNet, synsets: Iterable[Synset]) -> list[str]:
    """One word of each: the full name of somebody, else the commonest that means nothing else first."""
    found = []
    for one in synsets:
        if any(pointer.symbol == "@i" for pointer in one.pointers):
            found.append(max(one.words, key=lambda word: len(word.split())))
        else:
            found += [word for word in one.words if _means(known, word, one)][:1]
    return found


def _means(known: WordNet, word: str, synset: Synset) -> bool:
    """Whether this is the first meaning of a word; what is no noun has no others here."""
    senses = known.senses(word)
    return not senses or senses[0].offset == synset.offset


def _distinct(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))


def _is_other(word: str, own: Sequence[str]) -> bool:
    """Whether a word is none of the concept's; "weaponry", which begins with one, is not."""
    return not any(holds(word, one) or (len(one) >= LONG and word.startswith(one)) for one in own)
