"""Text states of concepts in several phrasings: what methods that edit by examples read."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..._util.errors import InputError
from ...concept import Concept, Kind
from ...knowledge import Knowledge
from ...models import StableDiffusion

PHRASINGS: dict[Kind, tuple[str, ...]] = {
    "object": ("{}", "a photo of {}", "a picture of {}", "an image of {}", "a photo of a {}"),
    "style": ("{}", "a picture in {} style", "{} drawing", "a {} picture", "style of {}"),
    "harmful": ("{}", "a photo of {}", "a picture of {}", "an image of {}", "a photo of a {}"),
}

#: How a concept is added to a prompt that does not have it.
ADDED: dict[Kind, str] = {"object": "{prompt}, {name}", "style": "{prompt} in {name} style", "harmful": "{prompt}, {name}"}


def names_of(concept: Concept, words: Knowledge, which: Literal["name", "related"]) -> list[str]:
    """What a method calls the concept: its name only, or its related words too, the name first and none twice."""
    return list(dict.fromkeys((concept.name, *(words.related if which == "related" else ()))))


def shown_prompts(concept: Concept, words: Knowledge, n: int, rng: random.Random) -> list[str]:
    """``n`` prompts of the concept's words in its contexts, none twice while there are others; for 0, the concept's own prompt only."""
    found = list(dict.fromkeys(context.format(name) for context in words.contexts for name in names_of(concept, words, "related")))
    rng.shuffle(found)
    return [found[i % len(found)] for i in range(n)] or [concept.prompt]


def kept_prompts(concepts: Sequence[Concept], knowledge: Sequence[Knowledge], n: int, rng: random.Random) -> list[str]:
    """At most ``n`` prompts of unrelated words that are no words of any of the concepts.

    Raises:
        InputError: no such word is left.
    """
    own = {word for concept, words in zip(concepts, knowledge, strict=True) for word in (concept.name, *words.related)}
    found = [c.format(word) for words in knowledge for c in words.unrelated_contexts for word in words.unrelated if word not in own]
    if not found:
        raise InputError("No unrelated words are left: nothing would protect the rest of the model.")
    distinct = list(dict.fromkeys(found))
    return rng.sample(distinct, min(len(distinct), n))


def stand_in(concept: Concept, words: Knowledge, chosen: str) -> str:
    """The word that takes the concept's place: the chosen one or, if that is empty, the first surrogate that is no word of the concept.

    Raises:
        InputError: there is neither.
    """
    own = {concept.name, *words.related}
    found = chosen or next((word for word in words.replacements if word not in own), "")
    if not found:
        raise InputError(f"Nothing can take the place of {concept.name!r}: its words have no surrogate, and the settings name none.")
    return found


@torch.no_grad()
def last_word_states(model: StableDiffusion, texts: Sequence[str]) -> Float[Tensor, "n width"]:
    """The state at the last content token of each text; of the empty text, at the start token."""
    tokens = model.tokenize(list(texts))
    return model.encode(tokens.ids)[torch.arange(len(texts)), (tokens.end - 1).clamp(min=0)]


@torch.no_grad()
def all_states(model: StableDiffusion, texts: Sequence[str]) -> Float[Tensor, "rows width"]:
    """All states of each text, joined."""
    return model.encode(model.tokenize(list(texts)).ids).flatten(0, 1)


@torch.no_grad()
def tail_states(model: StableDiffusion, texts: Sequence[str], others: Sequence[str]) -> tuple[Tensor, Tensor]:
    """States of pairs of texts from their last content token on, cut to equal length and joined: ``(rows, width)`` twice."""
    left, right = model.tokenize(list(texts)), model.tokenize(list(others))
    a, b = model.encode(left.ids), model.encode(right.ids)
    rows = []
    for i, (at_a, at_b) in enumerate(zip(left.end.tolist(), right.end.tolist(), strict=True)):
        start_a, start_b = max(at_a - 1, 0), max(at_b - 1, 0)
        n = model.text_length - max(start_a, start_b)
        rows.append((a[i, start_a : start_a + n], b[i, start_b : start_b + n]))
    return torch.cat([x for x, _ in rows]), torch.cat([y for _, y in rows])


def joined_phrases(model: StableDiffusion, concepts: Sequence[Concept], knowledge: Sequence[Knowledge]) -> str:
    """The concepts' names and, in turns, as many of their related words as the text encoder can read, with commas.

    Raises:
        InputError: the names alone are too long.
    """
    room = model.text_length - 2
    own = [names_of(concept, words, "related") for concept, words in zip(concepts, knowledge, strict=True)]
    turns = [phrase for turn in itertools.zip_longest(*own) for phrase in turn if phrase is not None]
    chosen: list[str] = []
    for phrase in dict.fromkeys(turns):
        if len(model.content_tokens(", ".join([*chosen, phrase]))) > room:
            break
        chosen.append(phrase)
    if missing := [concept.name for concept in concepts if concept.name not in chosen]:
        raise InputError(f"The text encoder cannot read all names at once ({missing[0]!r} is left over): give fewer concepts.")
    return ", ".join(chosen)
