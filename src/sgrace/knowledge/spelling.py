"""What counts as a word, and when two words are the same or one holds the other."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from .._util.text import has_control, visible
from ..concept import MAX_LENGTH, folded

RULE = f"a word has a letter, at most {MAX_LENGTH} characters, and no control characters, brackets or paths"
#: Words of one line of speech: the longest names in use have fewer.
MAX_WORDS = 8

_NO_WORD = re.compile(r"""[{}\[\]<>=\\#"`$]|://|^[.~]*/|\.\./|&\w+;""")  # words of other formats hold these
_SPEECH = re.compile(
    r"^(sure|certainly|of course|ok|okay)\b|\b(here (is|are)|here's|"
    r"i (can|cannot|can't|hope|am|have)|as an ai|let me know|please note|(the )?following|"
    r"words? (related|that|for|of)|"
    r"list of|(ignore|disregard|forget) (all|any|every|previous|prior|the|your)|system prompt)\b",
    re.IGNORECASE,
)
_IRREGULAR = {
    "men": "man",
    "women": "woman",
    "people": "person",
    "children": "child",
    "feet": "foot",
    "teeth": "tooth",
    "geese": "goose",
    "mice": "mouse",
    "oxen": "ox",
}


def fault(word: str) -> str | None:
    """Why a text is no word; None if it is one."""
    if not any(map(str.isalpha, word)):
        return "has no letter"
    if len(word) > MAX_LENGTH:
        return f"is longer than {MAX_LENGTH} characters"
    if has_control(word) or _NO_WORD.search(word):
        return "is no word: it holds control characters, brackets or a path"
    return None


def chatter(word: str) -> bool:
    """Whether a text is something said about words, or a sentence."""
    return (
        bool(_SPEECH.search(word)) or len(word.split()) > MAX_WORDS or word.rstrip().endswith(("?", "!", ":"))
    )


def clean(word: str) -> str:
    """The form in which a word is kept: lower case, one space between its parts, nothing invisible."""
    return folded(visible(word))


def parts(phrase: str) -> list[str]:
    """The words of a phrase as they are compared: without case, accents, hyphens and possessive endings."""
    plain = unicodedata.normalize("NFKD", visible(phrase).replace("_", " ")).casefold()
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return re.findall(r"\w+", re.sub(r"[’']s\b", "", plain))  # noqa: RUF001  (the apostrophe of word processors)


def numbers(word: str) -> set[str]:
    """A word and what it may be the plural of; the plural and the singular of a noun share one of these."""
    found = {word, _IRREGULAR.get(word, word)}
    if len(word) > 3 and word.endswith("s"):
        found.add(word[:-1])
        if word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
            found.add(word[:-2])
        if word.endswith("ies"):
            found.add(word[:-3] + "y")
        if word.endswith("ves"):
            found |= {word[:-3] + "f", word[:-3] + "fe"}
    return found


def holds(phrase: str, word: str) -> bool:
    """Whether a phrase holds a word, or several in this order, each in the singular or the plural."""
    inner, outer = _forms(word), _forms(phrase)
    places = range(len(outer) - len(inner) + 1) if inner else ()
    return any(all(outer[i + j] & one for j, one in enumerate(inner)) for i in places)


@lru_cache(maxsize=2**14)
def _forms(phrase: str) -> tuple[set[str], ...]:
    """Of each word of a phrase, all that it may be the plural of; lists are compared word by word."""
    return tuple(numbers(part) for part in parts(phrase))
