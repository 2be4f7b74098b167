"""Prompts of concepts in several phrasings, and the prompt embeddings that methods edit by."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..._util.errors import InputError
from ...concept import Kind
from ...knowledge import Target
from ...models import DiffusionModel, TextEncoder

#: What a method calls a concept: by its name only, or by its related words too.
Names = Literal["name", "related"]

PHRASINGS: dict[Kind, tuple[str, ...]] = {
    "object": ("{}", "a photo of {}", "a picture of {}", "an image of {}", "a photo of a {}"),
    "style": ("{}", "a picture in {} style", "{} drawing", "a {} picture", "style of {}"),
    "harmful": ("{}", "a photo of {}", "a picture of {}", "an image of {}", "a photo of a {}"),
}

#: How a concept is added to a prompt that does not have it.
ADDED: dict[Kind, str] = {
    "object": "{prompt}, {name}",
    "style": "{prompt} in {name} style",
    "harmful": "{prompt}, {name}",
}


def names_of(target: Target, which: Names) -> list[str]:
    """What a method calls the concept, the name first and none twice."""
    related = target.words.related if which == "related" else ()
    return list(dict.fromkeys((target.concept.name, *related)))


def own_words(targets: Sequence[Target]) -> set[str]:
    """All words of all concepts: none of them is retained or takes a concept's place."""
    return {word for target in targets for word in names_of(target, "related")}


def concept_prompts(target: Target, n: int, rng: random.Random) -> list[str]:
    """``n`` prompts of the concept's words in its contexts; for 0, the concept's own prompt only.

    None comes twice while there are others.
    """
    names = names_of(target, "related")
    found = list(dict.fromkeys(context.format(name) for context in target.words.contexts for name in names))
    # shuffled before it is cut: contexts and words are mixed, whatever the number
    rng.shuffle(found)
    return [found[i % len(found)] for i in range(n)] or [target.concept.prompt]


def retain_prompts(targets: Sequence[Target], n: int, rng: random.Random) -> list[str]:
    """At most ``n`` prompts of unrelated words that are no words of any of the concepts.

    Raises:
        InputError: no such word is left.
    """
    taken = own_words(targets)
    found: list[str] = []
    for target in targets:
        left = [word for word in target.words.unrelated if word not in taken]
        found += [context.format(word) for context in target.words.unrelated_contexts for word in left]
    if not found:
        raise InputError("No unrelated words are left: nothing would protect the rest of the model.")
    # several concepts often share their unrelated words
    distinct = list(dict.fromkeys(found))
    return rng.sample(distinct, min(len(distinct), n))


def replacement_of(target: Target, chosen: str) -> str:
    """The word that takes the concept's place.

    The chosen one or, if that is empty, the first candidate that is no word of the concept.

    Raises:
        InputError: there is neither.
    """
    own = names_of(target, "related")
    # a replacement that is one of the concept's own words would erase nothing
    found = chosen or next((word for word in target.words.replacements if word not in own), "")
    if not found:
        raise InputError(
            f"Nothing can take the place of {target.concept.name!r}: its words name no replacement; add "
            "words to retain, or give one with --set replacement=WORD."
        )
    return found


def first_position(encoder: TextEncoder) -> int:
    """Where an encoder's states begin in the prompt embeddings."""
    assert encoder.place is not None
    return encoder.place.positions.start or 0


@torch.no_grad()
def last_word_embeds(model: DiffusionModel, texts: Sequence[str]) -> Float[Tensor, "rows width"]:
    """The prompt embedding at the last content token of each text; of the empty text, at the start token.

    Where encoders stand one behind the other, those of each one's last token: first all texts of the first.
    """
    cond = model.encode(texts)
    found = []
    for encoder in model.text.rows:
        # the empty text ends at position 1, where 1 - 1 is the start token
        end = (encoder.tokenize(texts).end - 1).clamp(min=0)
        found.append(cond.at(end + first_position(encoder)))
    # (n, length, width) -> (stretches * n, width)
    return torch.cat(found)


@torch.no_grad()
def all_embeds(model: DiffusionModel, texts: Sequence[str]) -> Float[Tensor, "rows width"]:
    """All prompt embeddings of each text, joined."""
    # (n, length, width) -> (n * length, width)
    return model.encode(texts).prompt_embeds.flatten(0, 1)


class Pairs(NamedTuple):
    """Prompt embeddings of one set of texts, and those of others in the same places."""

    own: Float[Tensor, "rows width"]
    other: Float[Tensor, "rows width"]


class Tails(NamedTuple):
    """Positions of two texts that are compared one by one."""

    own: slice
    other: slice


def tails(encoder: TextEncoder, texts: Sequence[str], others: Sequence[str]) -> list[Tails]:
    """For each pair of texts the positions from the last content token on, as many of both."""
    first = first_position(encoder)
    found = []
    # the empty text ends at position 1, and none starts before the first
    starts = (encoder.tokenize(texts).end - 1).clamp(min=0).tolist()
    other_starts = (encoder.tokenize(others).end - 1).clamp(min=0).tolist()
    for start, other_start in zip(starts, other_starts, strict=True):
        # what starts later has fewer positions left: both are cut to that number
        n = encoder.length - max(start, other_start)
        own, other = first + start, first + other_start
        found.append(Tails(slice(own, own + n), slice(other, other + n)))
    return found


@torch.no_grad()
def tail_embeds(model: DiffusionModel, texts: Sequence[str], others: Sequence[str]) -> Pairs:
    """Prompt embeddings of pairs of texts at their :func:`tails`, joined; of each encoder in turn."""
    own = model.encode(texts).prompt_embeds
    other = model.encode(others).prompt_embeds
    pairs = []
    for encoder in model.text.rows:
        for row, place in enumerate(tails(encoder, texts, others)):
            # the shapes of a pair agree, those of two pairs need not: (n, width) each
            pairs.append(Pairs(own[row, place.own], other[row, place.other]))
    return Pairs(torch.cat([pair.own for pair in pairs]), torch.cat([pair.other for pair in pairs]))


def joined_phrases(model: DiffusionModel, targets: Sequence[Target]) -> str:
    """The concepts' names and their related words, with commas.

    In turns, as many related words as the text encoder can read.

    Raises:
        InputError: the names alone are too long.
    """
    main = model.text.main
    own = [names_of(target, "related") for target in targets]
    # name of each concept, first related word of each, second ...: none is left out for another's long list
    turns = [phrase for turn in itertools.zip_longest(*own) for phrase in turn if phrase is not None]
    chosen: list[str] = []
    for phrase in dict.fromkeys(turns):
        # tokens are counted of the whole text: commas are tokens too
        if len(main.content_tokens(", ".join([*chosen, phrase]))) > main.room:
            break
        chosen.append(phrase)
    missing = [target.concept.name for target in targets if target.concept.name not in chosen]
    if missing:
        raise InputError(
            f"The text encoder cannot read all names at once ({missing[0]!r} is left over): give fewer "
            "concepts."
        )
    return ", ".join(chosen)
