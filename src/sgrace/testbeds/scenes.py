"""A model and a concept, made ready for attacks; the same for models with and without a testbed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .._util import registry
from .._util.errors import InputError, InputWarning, unknown
from ..attacks import PROTOCOLS, Prompt, Scene
from ..attacks.prompt_files import read_prompts
from ..concept import Concept, Kind
from ..detectors import Detector
from ..erasure import Erasure
from ..knowledge import Knowledge
from ..models import DiffusionModel
from .base import PromptSet, Testbed
from .files import OPTIONS, FileTestbed
from .loading import Loaded
from .word_sources import words_of


def find_testbed(
    model: DiffusionModel,
    original: DiffusionModel | None = None,
    *,
    words: Knowledge | Mapping[str, Knowledge] | None = None,
    prompts: Sequence[Prompt] | None = None,
    detector: Detector | str | None = None,
    detector_options: Mapping[str, str] | None = None,
    kind: Kind | None = None,
) -> Testbed:
    """The testbed of a model, with whatever the user gives in place of its own.

    Args:
        model: its ``testbed`` names one; a model from a plain folder has none.
        original: the model before erasing, whose testbed counts where the model names none.
        words: of the concept, or of several by name.
        prompts: prompt table.
        detector: the detector itself, or a name.
        detector_options: options of a detector that is given by name, as text.
        kind: of the concept.
    """
    name = model.testbed or (original.testbed if original is not None else None)
    fallback: Testbed | None = registry.load("testbeds", name)() if name else None
    given = (words, prompts, detector, kind)
    if fallback is not None and all(value is None for value in given):
        return fallback
    return FileTestbed(
        words, prompts, detector, detector_options=detector_options, kind=kind, fallback=fallback
    )


def scene_of(
    target: DiffusionModel,
    concept: str | Concept,
    testbed: Testbed,
    *,
    original: DiffusionModel | None = None,
    n_prompts: int = 24,
    prompt_set: PromptSet = "test",
    protocol: str = "shared",
) -> Scene:
    """What attacks work on.

    Args:
        target: the model under attack.
        concept: its name, or the concept itself.
        testbed: of the model.
        original: the model before erasing, if it is known.
        n_prompts: size of the prompt table, where the testbed makes one.
        prompt_set: of the prompt table.
        protocol: which prompts are attacked, of :data:`sgrace.attacks.PROTOCOLS`.

    Raises:
        InputError: the protocol or the concept is unknown, or the testbed lacks something.
    """
    if protocol not in PROTOCOLS:
        raise unknown("protocol", protocol, PROTOCOLS)
    _check_given(testbed.missing())
    check_prompt_set(testbed, prompt_set)
    resolved = testbed.resolve(concept)
    scene = Scene(
        target=target,
        original=original,
        concept=resolved,
        words=testbed.words(resolved),
        detector=testbed.detector(resolved),
        prompts=testbed.prompts(resolved, n_prompts, prompt_set),
        num_inference_steps=testbed.num_inference_steps,
        guidance_scale=testbed.guidance_scale,
        protocol=PROTOCOLS[protocol],
    )
    truncated = truncated_prompts(scene)
    if truncated:
        warnings.warn(truncation(truncated, len(scene.prompts)), InputWarning, stacklevel=2)
    return scene


def _check_given(missing: Sequence[str]) -> None:
    """Refuse what is missing, by the options that give it.

    Raises:
        InputError: something is missing.
    """
    if missing:
        own = " and no ".join(missing)
        options = " and ".join(OPTIONS[part] for part in missing)
        raise InputError(f"This model brings no {own} for this concept: give {options}.")


def check_prompt_set(testbed: Testbed, prompt_set: str) -> None:
    """Check that a testbed has a set of prompts.

    Raises:
        InputError: it has not.
    """
    if prompt_set not in testbed.prompt_sets:
        raise InputError(
            f"There is no prompt set {prompt_set[:40]!r} here: a prompt table that is given is the set "
            f"'test', and the model brings {' and '.join(testbed.prompt_sets)}."
        )


class Prepared(NamedTuple):
    """A scene, and the testbed it was made with."""

    scene: Scene
    testbed: Testbed


def prepare(
    loaded: Loaded,
    concept: str | None = None,
    *,
    n_prompts: int = 24,
    words: Knowledge | Path | None = None,
    prompts: Sequence[Prompt] | Path | None = None,
    detector: Detector | str | None = None,
    detector_options: Mapping[str, str] | None = None,
    kind: Kind | None = None,
    prompt_set: PromptSet = "test",
    protocol: str = "shared",
) -> Prepared:
    """The scene of a loaded model: what the user gives, and for the rest what erasure and testbed know.

    Args:
        loaded: the model under attack, with the model before erasing.
        concept: its name; the erasure's own, if absent.
        n_prompts: size of the prompt table, where the testbed makes one.
        words: words of the concept, or a word file; where the model has none of its own, those that the
            erasure was made with, else those of WordNet, which a warning tells.
        prompts: prompt table, or its file.
        detector: decides success, by name or as an object.
        detector_options: options of a detector that is given by name, as text.
        kind: kind of the concept.
        prompt_set: of the testbed's prompts.
        protocol: which prompts are attacked.

    Raises:
        InputError: something is unknown, missing or not readable.
    """
    named = named_concept(loaded.erasure, concept, kind, loaded.target)
    if words is None and loaded.target.testbed is None:
        words = _words_of_erasure(loaded, named)
    given = Knowledge.from_file(words) if isinstance(words, Path) else words

    def testbed_with(words: Knowledge | None) -> Testbed:
        return find_testbed(
            loaded.target,
            loaded.original,
            words=words,
            prompts=read_prompts(prompts) if isinstance(prompts, Path) else prompts,
            detector=detector,
            detector_options=detector_options,
            kind=named.kind,
        )

    testbed = testbed_with(given)
    if "words" in testbed.missing():
        # what nobody can look up is asked for before the search for words
        _check_given([part for part in testbed.missing() if part != "words"])
        testbed = testbed_with(_found_words(loaded, named))
    scene = scene_of(
        loaded.target,
        named,
        testbed,
        original=loaded.original,
        n_prompts=n_prompts,
        prompt_set=prompt_set,
        protocol=protocol,
    )
    return Prepared(scene, testbed)


def _words_of_erasure(loaded: Loaded, concept: Concept) -> Knowledge | None:
    """Words that the concept was erased with; None where no known erasure is of it."""
    carried = loaded.target.erasures
    erasures = carried if loaded.erasure is None else (*carried, loaded.erasure)
    found = [each for erasure in erasures for each in erasure.recipe.targets]
    return next((each.words for each in reversed(found) if each.concept.name == concept.name), None)


def _found_words(loaded: Loaded, concept: Concept) -> Knowledge:
    """Words of WordNet, as erasing finds them; a warning tells which meaning they are of."""
    # an erased encoder no longer knows what is near the concept
    found = words_of(loaded.original or loaded.target, concept)
    message = f"No words are given, so those of {found.words.source} are used: {found.note}."
    warnings.warn(message, InputWarning, stacklevel=3)
    return Knowledge.of(found.words)


def truncated_prompts(scene: Scene) -> int:
    """Number of prompts that are longer than any of the target's text encoders reads."""
    return sum(scene.target.text.truncates(prompt.text) for prompt in scene.prompts)


def truncation(truncated: int, n: int) -> str:
    """The sentence that says so."""
    return f"{truncated} of {n} prompts are longer than the text encoder reads; their ends are cut."


def named_concept(
    erasure: Erasure | None, concept: str | None, kind: Kind | None, model: DiffusionModel | None = None
) -> Concept:
    """The concept to be attacked; name and kind come from the erasure where they are not given.

    Args:
        erasure: what was erased; None where it is unknown.
        concept: its name, if it is given.
        kind: its kind, if it is given.
        model: under attack; its erasures count where the erasure is unknown, and know kinds.

    Raises:
        InputError: no concept is named and the erasure is not of exactly one, or the name is not readable.
    """
    carried: Sequence[Erasure] = () if model is None else model.erasures
    own = carried if erasure is None else (erasure,)
    erased = list(dict.fromkeys(each.name for erasure in own for each in erasure.recipe.concepts))
    stated = {
        each.name: each.kind
        for erasure in (*carried, *own)
        for each in erasure.recipe.concepts
        if each.kind is not None
    }
    if concept is None:
        if len(erased) != 1:
            choices = f": one of {', '.join(erased)}" if 0 < len(erased) <= 12 else ""
            raise InputError(f"Name the concept with --concept{choices}.")
        concept = erased[0]
    parsed = Concept.parse(concept)
    return Concept.parse(parsed, kind or stated.get(parsed.name))
