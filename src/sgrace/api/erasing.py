"""``erase``: a concept, or several, out of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from .._util import registry
from .._util.errors import InputError
from ..concept import Concept, Kind, parse_concepts
from ..erasure import Erasure, check_effect
from ..knowledge import Knowledge, Target
from ..models import DiffusionModel
from ..testbeds.loading import load_model
from ..testbeds.scenes import find_testbed
from ..testbeds.word_sources import words_of


def erase(
    model: DiffusionModel | str,
    concepts: str | Sequence[str | Concept],
    *,
    method: str = "sgrace",
    preset: str | None = None,
    settings: Mapping[str, str] | None = None,
    words: Knowledge | Sequence[Knowledge] | None = None,
    kind: Kind | None = None,
    seed: int = 0,
) -> Erasure:
    """Erase one or more concepts; the given model is untouched.

    Args:
        model: a loaded model, or its name for :func:`load_model`.
        concepts: one name or several; several are erased together.
        method: name of an eraser.
        preset: the method's preset; its default, if absent.
        settings: single settings as text, on top of the preset.
        words: word lists, one for each concept; a model with a testbed has its own, and for others they are
            found in WordNet (extra ``wordnet``).
        kind: kind of the concepts, which decides their prompts; a testbed knows it.
        seed: same seed, same weights.

    Raises:
        InputError: an unknown name or setting, a value out of range, settings that cannot erase, or missing
            words.
    """
    parsed = parse_concepts(concepts)
    plugin = registry.load("erasers", method)
    loaded = model if isinstance(model, DiffusionModel) else load_model(model)
    if words is None and loaded.testbed is None:
        words = [Knowledge.of(words_of(loaded, Concept.parse(concept, kind)).words) for concept in parsed]
    testbed = find_testbed(loaded, words=_by_concept(parsed, words), kind=kind)
    resolved = [testbed.resolve(concept) for concept in parsed]
    targets = [Target(concept, testbed.words(concept)) for concept in resolved]
    eraser = plugin.preset(preset, targets[0].concept.template_kind, settings)
    refuse_settings_that_cannot_erase(eraser.config, targets)
    erasure: Erasure = eraser.erase(loaded, targets, seed=seed)
    check_effect(erasure, loaded)
    return erasure


def refuse_settings_that_cannot_erase(config: BaseModel, targets: Sequence[Target]) -> None:
    """Check the settings of an eraser before any work.

    Raises:
        InputError: the settings train for no step, or replace a concept with the same concept.
    """
    values = config.model_dump()
    # a method that counts in iterations may have rounds of something else
    length = next(
        (name for name in ("iterations", "rounds", "filter_steps", "scale") if name in values), None
    )
    alone = bool(values.get("denoiser_steps"))  # a second stage erases without the first
    for name in (length, "edit_steps"):
        if name is not None and values.get(name) == 0 and not alone:
            raise InputError(f"With {name}=0 nothing is erased; give a larger value.")
    replacement = " ".join(str(values.get("replacement") or "").lower().split())
    replacement = re.sub(r"^(an?|the) ", "", replacement)
    for target in targets:
        if replacement in {target.concept.name, *target.words.related}:
            raise InputError(
                f"The replacement {replacement!r} shows {target.concept.name!r} itself: nothing is erased."
            )


def _by_concept(
    concepts: Sequence[Concept], words: Knowledge | Sequence[Knowledge] | None
) -> dict[str, Knowledge] | None:
    if words is None:
        return None
    given = [words] if isinstance(words, Knowledge) else list(words)
    n = len(concepts)
    if len(given) != n:
        raise InputError(f"{n} concepts need {n} word lists, not {len(given)}.")
    return {concept.name: each for concept, each in zip(concepts, given, strict=True)}
