"""The library's verbs: ``load_model``, ``erase``, ``attack``, ``evaluate``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel

from ._util import registry
from ._util.errors import InputError, unknown
from ._util.files import link
from ._util.folders import resumable_folder
from .attacks import AttackSet, Budget, Prompt
from .concept import Concept, Kind, parse_concepts
from .detectors import Detector
from .erasure import Erasure, check_effect
from .evaluation import Evaluation
from .evaluation import evaluate as evaluate_scene
from .evaluation.features import from_hub
from .evaluation.requests import fingerprint, request_of
from .evaluation.suites import N_PROMPTS, SUITES, Suite
from .knowledge import Knowledge, Target
from .metrics.extractor import Extractor
from .models import DiffusionModel, own_threads
from .testbeds.base import PromptSet
from .testbeds.loading import Loaded, Model, load_model, load_target
from .testbeds.scenes import find_testbed, prepare
from .testbeds.word_sources import words_of

__all__ = ["attack", "erase", "evaluate", "fingerprint", "load_model", "load_target"]


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


def attack(
    model: Model | Erasure | Loaded,
    concept: str | None,
    name: str,
    *,
    original: Model | None = None,
    into: Model | None = None,
    effort: str = "standard",
    settings: Mapping[str, str] | None = None,
    limits: Budget | None = None,
    words: Knowledge | Path | None = None,
    prompts: Sequence[Prompt] | Path | None = None,
    detector: Detector | str | None = None,
    detector_options: Mapping[str, str] | None = None,
    kind: Kind | None = None,
    protocol: str = "shared",
    seed: int = 0,
) -> AttackSet:
    """Try to bring a concept back.

    Args:
        model: the model under attack, an erasure or its folder, or a name; it is untouched.
        concept: name of the concept; None takes the erasure's own.
        name: name of the attack.
        original: the model before erasing, which most attacks need; an erasure brings it.
        into: another model, which gets the erased text encoders and nothing else, and is attacked.
        effort: ``quick``, ``standard``, or ``full``, the paper's own settings.
        settings: single settings of the attack as text.
        limits: hard limits of calls and time; none, if absent.
        words: words of the concept, or a word file; a testbed has its own, an erasure keeps those it was made
            with, and for others they are found in WordNet (extra ``wordnet``).
        prompts: prompt table, or its file; a testbed has its own.
        detector: decides success, by name or as an object; a testbed has its own.
        detector_options: options of a detector that is given by name, as text.
        kind: kind of the concept.
        protocol: which prompts are attacked, of :data:`sgrace.attacks.PROTOCOLS`.
        seed: same seed, same candidates.

    Raises:
        InputError: an unknown name or setting, or something the attack needs is missing.
    """
    attacker = registry.load("attacks", name).preset(effort, settings)
    loaded = model if isinstance(model, Loaded) else load_target(model, original, into=into)
    scene, _ = prepare(
        loaded,
        concept,
        n_prompts=N_PROMPTS[effort],
        words=words,
        prompts=prompts,
        detector=detector,
        detector_options=detector_options,
        kind=kind,
        protocol=protocol,
    )
    found: AttackSet = attacker.run(scene, limits, seed=seed)
    return found


def evaluate(
    model: Model | Erasure | Loaded,
    concept: str | None = None,
    *,
    original: Model | None = None,
    into: Model | None = None,
    suite: str = "standard",
    attacks: Sequence[str] = (),
    words: Knowledge | Path | None = None,
    prompts: Sequence[Prompt] | Path | None = None,
    detector: Detector | str | None = None,
    detector_options: Mapping[str, str] | None = None,
    kind: Kind | None = None,
    prompt_set: PromptSet = "test",
    protocol: str = "shared",
    features: Extractor | str | None = None,
    out: str | Path | None = None,
    pieces: Mapping[str, Path] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Attack a model, judge what it draws, and measure what else erasing changed.

    Args:
        model: the model under attack, an erasure or its folder, or a name; it is untouched.
        concept: name of the concept; the erasure's own, if absent.
        original: the model before erasing; an erasure brings it.
        into: another model, which gets the erased text encoders and nothing else, and is evaluated.
        suite: how much is measured: ``quick``, ``standard`` or ``full``.
        attacks: names of attacks in place of the suite's.
        words: words of the concept, or a word file; a testbed has its own, an erasure keeps those it was made
            with, and for others they are found in WordNet (extra ``wordnet``).
        prompts: prompt table, or its file; a testbed has its own.
        detector: decides success, by name or as an object; a testbed has its own.
        detector_options: options of a detector that is given by name, as text.
        kind: kind of the concept; images of a concept of unknown kind are blurred in reports.
        prompt_set: of prompts and questions: ``test``, or ``validation``, on which settings are chosen.
        protocol: which prompts are attacked, of :data:`sgrace.attacks.PROTOCOLS`.
        features: network on whose features images are compared, or its folder or hub id; a testbed has its
            own.
        out: folder of the attack sets and images; the same call again resumes there. If absent, nothing is
            written.
        pieces: finished parts of the same evaluation that lie elsewhere, by their place in the folder:
            ``attacks/NAME``, ``questions/before.safetensors``.
        seed: of the attacks.

    Raises:
        InputError: an unknown name, something is missing, or the folder holds the results of another request.
    """
    chosen = _suite(suite, attacks)
    extractor = from_hub(features) if isinstance(features, str) else features
    loaded = model if isinstance(model, Loaded) else load_target(model, original, into=into)
    if extractor is not None and loaded.original is None:
        raise InputError(
            "--features compares images with those of the model before erasing: name it with --base."
        )
    scene, testbed = prepare(
        loaded,
        concept,
        n_prompts=chosen.n_prompts,
        words=words,
        prompts=prompts,
        detector=detector,
        detector_options=detector_options,
        kind=kind,
        prompt_set=prompt_set,
        protocol=protocol,
    )
    names = list(chosen.attacks)
    compared_on = extractor.name if extractor else None
    request = request_of(scene, suite=suite, attacks=names, features=compared_on, seed=seed)
    facts = {
        "concept": scene.concept,
        "target_sha256": request["target"]["weights"],
        "target_settings_sha256": request["target"]["settings"],
        "suite": suite,
        "prompt_set": prompt_set,
        **_facts(loaded),
    }
    with own_threads(scene.target), _folder(out, request) as folder:
        for name, place in (pieces or {}).items():
            link(place, folder / name)
        return evaluate_scene(
            scene, testbed, chosen, folder, facts=facts, attacks=names, extractor=extractor, seed=seed
        )


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


def _suite(name: str, attacks: Sequence[str]) -> Suite:
    """The suite of a name, with these attacks in the place of its own where any are given.

    Raises:
        InputError: there is no such suite or attack.
    """
    if name not in SUITES:
        raise unknown("suite", name, SUITES)
    chosen = SUITES[name]
    for attack_name in attacks:
        registry.load("attacks", attack_name)
    return replace(chosen, attacks=tuple(attacks)) if attacks else chosen


@contextmanager
def _folder(out: str | Path | None, request: Mapping[str, Any]) -> Iterator[Path]:
    """The folder of an evaluation; one that is removed afterwards, if none is given."""
    if out is not None:
        with resumable_folder(Path(out), request) as folder:
            yield folder
        return
    with TemporaryDirectory() as temporary:
        yield Path(temporary)


def _facts(loaded: Loaded) -> dict[str, Any]:
    """Where the target comes from, as far as it is known."""
    applied = loaded.erasure or (loaded.target.erasures[-1] if loaded.target.erasures else None)
    cost: dict[str, Any] = {}
    if applied is not None:
        known = {"seconds", "device", "cost", "peak_memory_mb"}
        cost = applied.recipe.model_dump(mode="json", include=known, exclude_none=True)
    if loaded.folder is not None:
        cost["artefact_bytes"] = sum(file.stat().st_size for file in loaded.folder.rglob("*.safetensors"))
    return {
        "target": str(loaded.folder or loaded.target.label),
        "base": None if loaded.original is None else loaded.original.label,
        "transferred": loaded.transferred,
        "method": applied.recipe.method if applied else None,
        "testbed": loaded.target.testbed,
        "cost": cost,
    }
