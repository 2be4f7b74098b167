"""Attack, judge and measure one model, one file after another into a folder. Existing files are used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from .._util import registry
from .._util.files import write_json, write_text_atomically
from .._util.images import from_bytes, to_bytes
from .._util.provenance import hardware, versions
from .._util.tensors import read_tensors, save_tensors_atomically
from .._util.text import read_json
from ..attacks import Attack, AttackSet, Scene
from ..metrics import Share, attack_success
from ..metrics.extractor import Extractor
from ..testbeds.base import PromptSet, Testbed
from ..testbeds.questions import Questions
from ..testbeds.scenes import truncated_prompts
from .caveats import caveats_of, left_out
from .controls import controls_of
from .drift import changed
from .retention import retention
from .schema import AttackRow, Evaluation, Rate, Retention, SpaceRow
from .space import concept_space
from .suites import Suite
from .table import csv_of
from .verdict import verdict_of

EVALUATION = "evaluation.json"
ORIGINALS = "originals.safetensors"
QUESTION_IMAGES = "questions"
UNRELATED_IMAGES = "unrelated.safetensors"
Made = TypeVar("Made")


def evaluate(
    scene: Scene,
    testbed: Testbed,
    suite: Suite,
    out: Path,
    *,
    facts: dict[str, Any],
    attacks: Sequence[str] = (),
    extractor: Extractor | None = None,
    seed: int = 0,
) -> Evaluation:
    """Fill ``out`` with attack sets, images and ``evaluation.json``.

    Args:
        scene: target, original (None where unknown), concept, detector and prompts.
        testbed: retention questions, features and reference of the model.
        suite: how much is measured.
        out: existing folder; pieces of the same evaluation in it are used.
        facts: fields of the evaluation that only the caller knows: concept, target and its hashes, base,
            method, suite, prompt set, testbed, cost.
        attacks: replace the suite's.
        extractor: network on whose features images are compared; default the testbed's.
        seed: of the attacks.
    """
    missing = left_out(scene, suite)
    names = list(attacks) or [name for name in suite.attacks if name not in missing]
    sets = {name: _attack(scene, name, suite.effort, seed, out / "attacks" / name) for name in names}
    rows = _rows(scene, suite, sets, seed, out / "controls")
    _draw_originals(scene, out / ORIGINALS)
    prompt_set: PromptSet = facts.get("prompt_set", "test")
    questions = testbed.questions(scene.concept, suite.n_images, prompt_set=prompt_set)
    measured = _what_else_changed(scene, questions, suite, extractor or testbed.features(), out)
    space = _concept_space(scene, suite, sets, seed, out)

    reliable = {name: found for name, found in sets.items() if not rows[name].unreliable}
    shown = {name: found.shown for name, found in (reliable or sets).items()}
    by_text = {name: hits for name, hits in shown.items() if registry.load("attacks", name).by_text}
    by_prompt = Rate.of(attack_success.worst_case(by_text or shown))
    floor = rows["random_tokens"].success.share if "random_tokens" in rows else 0.0
    truncated = truncated_prompts(scene)
    shares = [Retention(**row) for row in measured.get("retention", [])] or _plain(
        scene, sets, out / ORIGINALS
    )
    result = Evaluation(
        **facts,
        seed=seed,
        detector=scene.detector.identity.as_dict(),
        verdict=verdict_of(shares, by_prompt if by_text else None, floor),
        caveats=caveats_of(
            scene,
            suite,
            truncated,
            [name for name in names if rows[name].unreliable],
            prompt_set=prompt_set,
            transferred=facts.get("transferred", False),
        ),
        truncated_prompts=truncated,
        attacks=tuple(rows.values()),
        worst_case=Rate.of(attack_success.worst_case(shown)),
        worst_case_by_prompt=by_prompt,
        concept_space=tuple(SpaceRow(**row) for row in space),
        versions=versions(),
        hardware=hardware(scene.target.device),
        **measured,
    )
    reference = testbed.reference(scene.concept, result.suite)
    if reference is not None:
        result = result.with_gold(Evaluation.from_file(reference))
    write_text_atomically(out / EVALUATION, result.model_dump_json(indent=2) + "\n")
    write_text_atomically(out / "evaluation.csv", csv_of(result))
    return result


def _piece(path: Path, make: Callable[[], Made]) -> Made:
    """Content of a JSON file; made only if the file is missing."""
    if not path.exists():
        write_json(path, make())
    found: Made = read_json(path)
    return found


def _attack(scene: Scene, name: str, effort: str, seed: int, folder: Path) -> AttackSet:
    attack: Attack[Any] = registry.load("attacks", name).preset(effort)
    return attack.run_in(folder, scene, seed=seed)


def _rows(
    scene: Scene, suite: Suite, sets: dict[str, AttackSet], seed: int, controls: Path
) -> dict[str, AttackRow]:
    """One row for each attack, with its controls where it needs them."""
    rows = {name: _attack_row(name, found) for name, found in sets.items()}
    for name in sets:
        if registry.load("attacks", name).needs_control:
            found = controls_of(scene, controls / name, partial(_controlled, name, suite.effort, seed))
            rows[name] = rows[name].model_copy(update=found.as_dict())
    return rows


def _controlled(name: str, effort: str, seed: int, scene: Scene, folder: Path) -> AttackSet:
    attack: Attack[Any] = registry.load("attacks", name).preset(effort)
    return attack.run_in(folder, scene, seed=seed, every_prompt=True)


def _attack_row(name: str, found: AttackSet) -> AttackRow:
    success = found.success
    spent = found.record.spent
    return AttackRow(
        attack=name,
        access=found.record.access,
        plain=Rate.of(success.pre),
        post_only=Rate.of(success.post_only),
        success=Rate.of(success.union),
        survival=found.survival,
        checks=sum(attempt.checks for attempt in found.attempts),
        denoiser_rows=spent.denoiser_rows,
        text_encoder_rows=spent.text_encoder_rows,
        seconds=round(spent.seconds, 1),
        stopped=found.record.stopped,
        unit=found.record.unit,
        starts=found.record.starts,
        note=found.record.note,
    )


def _draw_originals(scene: Scene, file: Path) -> None:
    """Images of the prompt table by the model before erasing."""
    if scene.original is None or file.exists():
        return
    images = scene.original.generate(
        [prompt.text for prompt in scene.prompts],
        [prompt.seed for prompt in scene.prompts],
        num_inference_steps=scene.num_inference_steps,
        guidance_scale=scene.scale_of(range(len(scene.prompts))),
    )
    save_tensors_atomically(file, {"images": to_bytes(images)})


def _what_else_changed(
    scene: Scene, questions: Questions | None, suite: Suite, compared_on: Extractor | None, out: Path
) -> dict[str, Any]:
    """Fields that a judge counts; without a judge, those that need only the model before erasing."""
    if questions is not None:
        images = out / QUESTION_IMAGES
        return _piece(out / "retention.json", lambda: retention(scene, questions, compared_on, images))
    original = scene.original
    if original is None:
        return {}
    images = out / UNRELATED_IMAGES
    return _piece(out / "changed.json", lambda: changed(scene, original, suite.n_images, compared_on, images))


def _concept_space(
    scene: Scene, suite: Suite, sets: dict[str, AttackSet], seed: int, out: Path
) -> list[dict[str, Any]]:
    original = scene.original
    if not suite.n_space or original is None:
        return []
    features = out / "concept_space.safetensors"
    make = partial(concept_space, scene, original, sets, suite.n_space, seed, features)
    return _piece(out / "concept_space.json", make)


def _plain(scene: Scene, sets: dict[str, AttackSet], originals: Path) -> list[Retention]:
    """The detector's share on the unchanged prompt table: after erasing and, if known, before."""
    before = None
    if originals.exists():
        scores = scene.detector.scores(from_bytes(read_tensors(originals)[0]["images"]))
        before = Rate.of(Share(int(scene.detector.detect(scores).sum()), len(scores)))
    after = next(iter(sets.values())).success.pre  # equal in all sets
    return [Retention(question="target", before=before, after=Rate.of(after))]
