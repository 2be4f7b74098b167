"""Words of a concept from a language model: asked for as JSON, validated, repaired once, kept."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from .._util.errors import InputError
from .._util.files import write_json
from .._util.text import read_json, shown
from ..concept import Concept
from .concept_words import Candidate, ConceptWords, line_of
from .guard import Dropped, usable
from .llm_endpoint import Endpoint, Message
from .spelling import clean

MAX_WORDS = 80
#: Characters of a faulty answer that are shown to the model again.
MAX_SHOWN = 4000
QUESTION = """List English words and short phrases about the concept {name!r}{kind}, for image captions.
Answer with one JSON object and nothing else. Its keys, each a list of at most 40 distinct lower-case words:
"related": other names of it, kinds of it, and phrases that would make an image show it;
"near": things of the same kind that are not it;
"cooccurring": things that are often seen with it and are not it;
"unrelated": everyday things that have nothing to do with it;
"replacements": at most 10 objects {{"word": ..., "reason": ...}}: what an image could show in its place.
No word of the last four lists may name the concept or be part of its name."""
REPAIR = "This is not the JSON object that was asked for: {fault}. Answer again, with the object alone."


class Proposal(BaseModel):
    """One candidate in the answer."""

    word: str
    reason: str = ""


class Answer(BaseModel):
    """What a language model is asked for."""

    related: list[str] = Field(min_length=1, max_length=MAX_WORDS)
    near: list[str] = Field(max_length=MAX_WORDS)
    cooccurring: list[str] = Field([], max_length=MAX_WORDS)
    unrelated: list[str] = Field(min_length=1, max_length=MAX_WORDS)
    replacements: list[Proposal] = Field([], max_length=MAX_WORDS)


class Told(NamedTuple):
    """Words of an answer, what was no word, and where the answer came from."""

    words: ConceptWords
    dropped: tuple[Dropped, ...]
    note: str


def find(concept: Concept, endpoint: Endpoint | None = None, cache: Path | None = None) -> Told:
    """Words of a concept's space as a language model tells them. The same question is asked once.

    Args:
        concept: what is erased.
        endpoint: which model answers; that of the environment, if absent.
        cache: folder of the answers; that of the user, if absent.

    Raises:
        InputError: no model is named, it does not answer, or it answers twice what is not asked for.
    """
    asked = endpoint or Endpoint.from_environment()
    kind = f", a {concept.kind}" if concept.kind else ""
    question = QUESTION.format(name=concept.name, kind=kind)
    facts = {"host": asked.host, "model": asked.model, "question": question}
    key = sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    file = (cache or _cache()) / f"{key}.json"
    if file.is_file():
        answer = _parse(read_json(file)["replies"][-1])
        found = "kept"
    else:
        answer = _ask(asked, question, file, facts)
        found = "asked now"
    words, dropped = _words(answer, concept, f"language model {asked.model}")
    return Told(words, dropped, f"{found}; the raw answer is in {shown(file)}")


def _ask(endpoint: Endpoint, question: str, file: Path, facts: dict[str, str]) -> Answer:
    """Ask, and once more where the answer is faulty. Raw answers are kept, faulty ones in another file."""
    messages: list[Message] = [{"role": "user", "content": question}]
    replies: list[str] = []
    fault = ""
    file.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(2):
        replies.append(endpoint.answer(messages, Answer.model_json_schema()))
        try:
            answer = _parse(replies[-1])
        except ValueError as error:
            fault = _fault(error)
            messages += [
                {"role": "assistant", "content": replies[-1][:MAX_SHOWN]},
                {"role": "user", "content": REPAIR.format(fault=fault)},
            ]
        else:
            write_json(file, {**facts, "replies": replies})
            return answer
    refused = file.with_suffix(".refused.json")
    write_json(refused, {**facts, "replies": replies})
    raise InputError(
        f"The language model {endpoint.model!r} has twice answered something else than words "
        f"({fault}); its answers are in {shown(refused)}."
    )


def _parse(reply: str) -> Answer:
    """The object in a reply, in a block of code or bare. Raises ValueError where there is none."""
    start, end = reply.find("{"), reply.rfind("}")
    try:
        return Answer.model_validate(json.loads(reply[start : end + 1]))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _fault(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return "no JSON object" if isinstance(error, json.JSONDecodeError) else str(error)


def _words(answer: Answer, concept: Concept, source: str) -> tuple[ConceptWords, tuple[Dropped, ...]]:
    """The usable words: whatever else stands in an answer is data, and is left out."""
    lists: dict[str, Any] = {}
    dropped: list[Dropped] = []
    for field in ("related", "near", "cooccurring", "unrelated"):
        kept = usable(getattr(answer, field))
        lists[field] = kept.words
        dropped += kept.dropped
    candidates = usable(one.word for one in answer.replacements)
    reasons = _reasons(answer.replacements)
    dropped += candidates.dropped
    words = ConceptWords(
        concept=concept.name,
        kind=concept.kind,
        source=source,
        replacements=tuple(Candidate(word=word, reason=reasons.get(word, "")) for word in candidates.words),
        **lists,
    )
    return words, tuple(dropped)


def _reasons(proposals: Iterable[Proposal]) -> dict[str, str]:
    """Reasons by word, as one printable line each."""
    return {clean(one.word): line_of(one.reason) for one in proposals}


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "sgrace" / "llm"
