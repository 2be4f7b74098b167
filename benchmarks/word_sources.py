"""Write the word files of ``studies/knowledge.yaml``: the same concepts, with words of different sources.

    python benchmarks/word_sources.py studies/words offline random
    OPENAI_BASE_URL=... OPENAI_MODEL=... python benchmarks/word_sources.py studies/words llm

``offline`` and ``llm`` are what ``sgrace knowledge CONCEPT --source SOURCE`` finds for the built-in model.
``random`` are words of its tokenizer's vocabulary that name nothing of the concept, in lists as long as
those of the model's own words. So that rows differ in their words alone, and are judged as all others:

- what the evaluation withholds from every eraser is left out: withheld classes, with their keywords, and
  held-out synonyms;
- prompt patterns are those of the model's own words.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import sgrace
from sgrace.concept import Concept
from sgrace.knowledge import Candidate, ConceptWords, Knowledge, write_words
from sgrace.knowledge.spelling import holds
from sgrace.knowledge.wordnet import WordNet
from sgrace.models import DiffusionModel
from sgrace.models.word_space import WordSpace
from sgrace.testbeds.emoji.concepts import keyword_table, knowledge, resolve
from sgrace.testbeds.word_sources import words_of

CONCEPTS = ("weapon", "church")
SOURCES = ("offline", "llm", "random")


def withheld(name: str) -> set[str]:
    """Words that no eraser may be told of, because the evaluation asks for them."""
    found = resolve(name)
    classes = (*found.withheld_neighbours, *found.withheld_unrelated)
    keywords = {word for label in classes for word in keyword_table()[label]}
    own = {*found.train_words, *knowledge(name).unrelated}
    return ({*classes, *found.held_out} | keywords) - own


def without(words: ConceptWords, left_out: set[str]) -> ConceptWords:
    """The words without those that are left out, and without phrases that hold one of them."""

    def kept(given: Sequence[str]) -> tuple[str, ...]:
        return tuple(word for word in given if not any(holds(word, one) for one in left_out))

    lists = {field: kept(getattr(words, field)) for field in ("related", "near", "cooccurring", "unrelated")}
    candidates = tuple(one for one in words.replacements if kept([one.word]))
    return words.model_copy(update={**lists, "replacements": candidates})


def random_words(model: DiffusionModel, name: str, known: Knowledge, seed: int = 0) -> ConceptWords:
    """Words of the vocabulary in place of all but the name, as many as the model's own lists have."""
    wordnet = WordNet.installed()
    space = WordSpace(model)
    left_out = (name, *withheld(name), *known.related)
    every = space.neighbours(name, 10**6, wordnet.has)
    words = sorted(word for word in every if not any(holds(word, one) for one in left_out))
    random.Random(f"{seed}/{name}").shuffle(words)
    n = len(known.related) - 1
    m = n + len(known.replacements)
    candidates = words[n:m]
    return ConceptWords(
        concept=name,
        source=f"random words of the vocabulary, seed {seed}",
        related=(name, *words[:n]),
        near=tuple(candidates),
        unrelated=tuple(words[m : n + len(known.unrelated)]),
        replacements=tuple(Candidate(word=word, reason="random") for word in candidates),
    )


def main() -> None:
    """Write a file for each source and concept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("sources", nargs="+", choices=SOURCES)
    given = parser.parse_args()
    model = sgrace.load_model("emoji")
    for name in CONCEPTS:
        known = knowledge(name)
        for source in given.sources:
            if source == "random":
                words = random_words(model, name, known)
            else:
                words = words_of(model, Concept(name=name, kind=resolve(name).kind), source).words
            words, _ = without(words, withheld(name)).guarded(name)
            patterns = {"contexts": known.contexts, "unrelated_contexts": known.unrelated_contexts}
            file: Path = given.folder / source / f"{name}.yaml"
            file.parent.mkdir(parents=True, exist_ok=True)
            write_words(file, words.model_copy(update=patterns))
            print(f"{file}: {len(words.related)} related, {len(words.protected)} protected")


if __name__ == "__main__":
    main()
