"""``evaluate``: everything that is measured of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .._util import registry
from .._util.errors import InputError, unknown
from .._util.files import link
from .._util.folders import resumable_folder
from ..attacks import Prompt
from ..concept import Kind
from ..detectors import Detector
from ..erasure import Erasure
from ..evaluation import Evaluation
from ..evaluation import evaluate as evaluate_scene
from ..evaluation.features import from_hub
from ..evaluation.requests import request_of
from ..evaluation.suites import SUITES, Suite
from ..knowledge import Knowledge
from ..metrics.extractor import Extractor
from ..models import own_threads
from ..testbeds.base import PromptSet
from ..testbeds.loading import Loaded, Model, load_target
from ..testbeds.scenes import prepare


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
