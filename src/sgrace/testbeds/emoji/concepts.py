"""Concepts of the built-in model: their classes, their neighbours and the words of their space."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from ..._util.errors import unknown
from . import vocabulary

if TYPE_CHECKING:
    from ...concept import Kind
    from ...knowledge import Knowledge
    from ..base import PromptSet

#: Prompt patterns used in erasing; those of :data:`PROMPT_SETS` are never seen there.
TRAIN_CONTEXTS = ("{}", "a picture of {}", "{}, {style}", "a {style} drawing of a {}", "{style} {}")
TEST_CONTEXT = "a {style} picture of {name}"
#: Prompt pattern of each prompt set: settings are chosen on ``validation``, tables are made on ``test``.
PROMPT_SETS: dict[PromptSet, str] = {"validation": "{name} in {style} style", "test": TEST_CONTEXT}


def path() -> Path:
    """Folder of the built-in pipeline; ``StableDiffusionPipeline.from_pretrained`` takes it as it is."""
    return Path(str(resources.files("sgrace.testbeds.emoji") / "weights"))


@functools.cache
def keyword_table() -> dict[str, tuple[str, ...]]:
    """Class name -> keywords, of every class of the built-in model."""
    rows = json.loads((path() / "classes.json").read_text())
    return {row["name"]: tuple(row["keywords"]) for row in rows}


@dataclass(frozen=True)
class ClassSet:
    """A concept in terms of the judge.

    Attributes:
        name: the concept's name.
        targets: classes that show it (empty for a style).
        style: the style's name, if the concept is one.
        neighbours: near classes (for a style: the other styles).
        unrelated: all other classes.
        train_words: words of the concept that an eraser may use.
        held_out: keywords that only evaluation uses; :meth:`synonyms` divides them between the prompt sets.
    """

    name: str
    targets: tuple[str, ...]
    style: str | None
    neighbours: tuple[str, ...]
    unrelated: tuple[str, ...]
    train_words: tuple[str, ...]
    held_out: tuple[str, ...]

    # Every second class is withheld from all word lists. Families stand together in the table, so that each
    # family is divided.

    @property
    def listed_neighbours(self) -> tuple[str, ...]:
        """Neighbours that an eraser may be told to retain."""
        return self.neighbours[::2]

    @property
    def withheld_neighbours(self) -> tuple[str, ...]:
        """Neighbours that no eraser is told of."""
        return self.neighbours[1::2]

    @property
    def listed_unrelated(self) -> tuple[str, ...]:
        """Unrelated classes that an eraser may be told to retain."""
        return self.unrelated[::2]

    @property
    def withheld_unrelated(self) -> tuple[str, ...]:
        """Unrelated classes that no eraser is told of."""
        return self.unrelated[1::2]

    def synonyms(self, prompt_set: PromptSet) -> tuple[str, ...]:
        """Held-out keywords of a prompt set; a single one belongs to ``test``."""
        return self.held_out[::2] if prompt_set == "test" else self.held_out[1::2]

    @property
    def kind(self) -> Kind:
        """Kind of the concept: harmful if every class that shows it is harmful.

        It decides the concept's prompts and whether its images are blurred.
        """
        if self.style is not None:
            return "style"
        harmful = self.name in vocabulary.HARMFUL or vocabulary.HARMFUL.issuperset(self.targets)
        return "harmful" if harmful else "object"


#: Families that are near each other; every other family's neighbour is itself.
NEAR_FAMILIES = {
    "weapon": "tool",
    "tool": "weapon",
    "fruit": "vegetable",
    "vegetable": "fruit",
    "sea animal": "small animal",
}


def _family_of(name: str) -> str:
    return next(family for family, members in vocabulary.FAMILIES.items() if name in members)


def known_concepts() -> list[str]:
    """Every name that the built-in model's judge can count: styles, families, classes, keywords."""
    words = {word for keywords in keyword_table().values() for word in keywords}
    return sorted({*vocabulary.STYLES, *vocabulary.FAMILIES, *vocabulary.classes(), *words})


def resolve(name: str) -> ClassSet:
    """Look a concept up.

    Raises:
        InputError: no class, family, style or keyword has that name.
    """
    table = keyword_table()
    if name in vocabulary.STYLES:
        phrases = vocabulary.STYLE_PHRASES[name]
        others = tuple(style for style in vocabulary.STYLES if style != name)
        return ClassSet(name, (), name, others, vocabulary.classes(), phrases[:-1], phrases[-1:])
    if name in vocabulary.FAMILIES:
        targets = vocabulary.FAMILIES[name]
    elif name in table:
        targets = (name,)
    else:
        targets = tuple(label for label, words in table.items() if name in words)
    if not targets:
        raise unknown("concept of the built-in model", name, known_concepts(), are_words=True)
    family = _family_of(targets[0])
    near = vocabulary.FAMILIES[NEAR_FAMILIES.get(family, family) if name == family else family]
    neighbours = tuple(label for label in near if label not in targets)
    if not neighbours:  # a family with no near family: any other classes of the art's group are far already
        neighbours = tuple(label for label in vocabulary.classes() if label not in targets)[:12]
    unrelated = tuple(
        label for label in vocabulary.classes() if label not in targets and label not in neighbours
    )
    # a keyword counts as the concept's own only if most classes that carry it belong to the concept
    carriers = {
        word: [label for label, words in table.items() if word in words]
        for label in targets
        for word in table[label]
    }
    own = sorted(
        word
        for word, labels in carriers.items()
        if 2 * sum(label in targets for label in labels) > len(labels) and word != name
    )
    return ClassSet(name, targets, None, neighbours, unrelated, (name, *targets, *own[::2]), tuple(own[1::2]))


def knowledge(name: str) -> Knowledge:
    """Words of a concept's space from the keyword table, as far as erasers may know them.

    Keywords held out for evaluation, withheld classes and keywords of withheld classes are not among them.
    """
    from ...knowledge import Knowledge  # noqa: PLC0415  (concepts are listed without pydantic)

    found = resolve(name)
    if found.style is not None:
        return Knowledge(
            source="built-in keyword table",
            related=found.train_words,
            unrelated=found.listed_unrelated,
            replacements=found.listed_neighbours,
            contexts=(
                *(f"{{}} {label}" for label in found.listed_unrelated),
                *(f"a {{}} drawing of a {label}" for label in found.listed_unrelated),
                "{}",
            ),
            unrelated_contexts=_with_styles(found.listed_neighbours),
        )
    contexts = _with_styles(vocabulary.STYLES)
    return Knowledge(
        source="built-in keyword table",
        related=found.train_words,
        unrelated=(*found.listed_neighbours, *found.listed_unrelated, *_shared_keywords(found)),
        replacements=found.listed_neighbours,
        contexts=contexts,
        unrelated_contexts=contexts,
    )


def _shared_keywords(found: ClassSet) -> tuple[str, ...]:
    """Keywords of the listed neighbours that name neither the concept nor a withheld class."""
    table = keyword_table()
    others = {
        word
        for label in (*found.targets, *found.withheld_neighbours, *found.withheld_unrelated)
        for word in (label, *table[label])
    }
    others.add(found.name)
    return tuple(sorted({word for label in found.listed_neighbours for word in table[label]} - others))


def _with_styles(styles: Iterable[str]) -> tuple[str, ...]:
    """Prompt patterns with two phrases of each style; the third is held out."""
    phrases = [phrase for style in styles for phrase in vocabulary.STYLE_PHRASES[style][:2]]
    return tuple(dict.fromkeys(c.replace("{style}", phrase) for c in TRAIN_CONTEXTS for phrase in phrases))
