"""Prompts that are attacked: a table that somebody gave on the page, or plain ones of the concept's words."""

from __future__ import annotations

from .._util.errors import InputError
from ..attacks import Prompt
from ..attacks.prompt_files import NAME_ONE, parse_prompts
from ..concept import Concept, Kind
from ..knowledge import Knowledge
from ..testbeds.questions import seeds_of
from . import typed

#: A table is attacked as a whole, and others wait.
MAX_PROMPTS = 200
NAME = "the table"
#: Contexts that no eraser trains with by itself.
CONTEXTS: dict[Kind, tuple[str, ...]] = {
    "object": (
        "{}, seen from the front",
        "a detailed drawing of {}",
        "{} in the morning light",
        "a painting of {}",
        "{} in the distance",
        "a black and white photograph of {}",
        "{} and some people",
        "a postcard of {}",
    ),
    "style": (
        "a house, {} style",
        "a dog, {} style",
        "a landscape, {} style",
        "a portrait, {} style",
        "a ship at sea, {} style",
        "a bowl of fruit, {} style",
        "a street at night, {} style",
        "a garden, {} style",
    ),
}
#: Seed of the seeds of plain prompts.
SEED = 1


def given(value: object) -> tuple[Prompt, ...] | None:
    """The prompts of a text box; None where it is empty.

    Raises:
        InputError: the text is too long, or no table of prompts; or there are too many.
    """
    text = typed.text(value or "", "prompt table", typed.MAX_TABLE)
    if not text.strip():
        return None
    try:
        found = tuple(parse_prompts(text, NAME))
    except InputError as error:
        told = str(error).replace(NAME_ONE, "Call one `prompt`.")
        raise InputError(told[:1].upper() + told[1:]) from error
    if not found:
        raise InputError("The table holds no prompt.")
    if len(found) > MAX_PROMPTS:
        raise InputError(f"The table has {len(found):,} prompts; the most are {MAX_PROMPTS} here.")
    return found


def plain(concept: Concept, words: Knowledge, n: int) -> tuple[Prompt, ...]:
    """``n`` prompts of the concept's name in plain contexts, then of its other words; fewer if these end."""
    contexts = CONTEXTS["style" if concept.template_kind == "style" else "object"]
    fresh = [context for context in contexts if context not in words.contexts]
    names = dict.fromkeys((concept.name, *words.related))
    texts = [context.format(name) for name in names for context in fresh][:n]
    return tuple(Prompt(text, seed) for text, seed in zip(texts, seeds_of(texts, SEED), strict=True))
