"""Word files: in YAML, which holds everything, or in the published layout of two lists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from .._util.errors import InputError, choices
from .._util.files import new_file
from .._util.text import read_text
from .concept_words import ConceptWords
from .text_layout import Words, parse_text, text_of

MAX_FILE_BYTES = 1_000_000
WHAT = "a file of words"
YAML = {".yaml", ".yml"}
HEAD = "# `related` is erased; `near`, `cooccurring` and `unrelated` keep their meaning. Edit and review.\n"


def read_words(path: Path) -> ConceptWords:
    """The words of a file: YAML if its name ends so, else the published layout.

    Raises:
        InputError: no readable text file, or its content is not as it should be; the error says where.
    """
    text = read_text(path, WHAT, MAX_FILE_BYTES)
    if path.suffix.lower() in YAML:
        return _parse_yaml(text, path.name)
    related, unrelated = parse_text(text, path.name)
    return ConceptWords(source=f"file {path.name}", related=related, unrelated=unrelated)


def write_words(path: Path, words: ConceptWords) -> None:
    """Write a new file of words, in YAML if its name ends so, else in the published layout.

    Raises:
        InputError: something is there already, or the file cannot be written.
    """
    with new_file(path) as partial:
        partial.write_text(
            yaml_of(words) if path.suffix.lower() in YAML else text_of(Words(words.related, words.protected)),
            encoding="utf-8",
        )


def yaml_of(words: ConceptWords) -> str:
    """The words as YAML; what is not known is left out."""
    every = words.model_dump(mode="json", exclude_none=True)
    found = {key: value for key, value in every.items() if value not in ([], {})}
    return HEAD + yaml.safe_dump(found, sort_keys=False, allow_unicode=True, width=100)


def _parse_yaml(text: str, name: str) -> ConceptWords:
    """Raises InputError where the text is not YAML or not of the schema."""
    keys = re.findall(r"^(\w+)\s*:", text, re.MULTILINE)
    if twice := [key for key in dict.fromkeys(keys) if keys.count(key) > 1]:
        raise InputError(f"{name} has {twice[0]!r} twice; YAML would keep the last one only.")
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or str(error) or "it is nested too deeply"
        raise InputError(f"{name} is not YAML: {where}{str(problem)[:80]}.") from error
    if not isinstance(found, dict):
        raise InputError(f"{name} must hold the keys `related:` and `unrelated:`, each with a list of words.")
    _check_keys(found, name)
    try:
        return ConceptWords.model_validate({"source": f"file {name}", **found})
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        quote = "; put it in quotes if it is a word" if first["type"] == "string_type" else ""
        raise InputError(f"{name}, {place}: {message}{quote}.") from error


def _check_keys(found: dict[Any, Any], name: str) -> None:
    known = ConceptWords.model_fields
    for key in found:
        if key not in known:
            raise InputError(f"{name} has no use for the key {str(key)[:40]!r}; {choices(str(key), known)}")
    if not any(found.get(field) for field in ("near", "cooccurring", "unrelated")):
        raise InputError(f"{name} has no words to protect; list some under `unrelated:`.")
