"""What happens in a cell: a model is erased, attacked, drawn from, searched for or scored, into a folder."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .._util import registry
from .._util.files import write_json, write_text_atomically
from .._util.tensors import read_tensors, save_tensors_atomically
from ..api import erase, evaluate
from ..attacks import AttackSet
from ..concept import Concept
from ..erasers._shared.adversarial_samples import adversarial_samples
from ..erasure import Erasure
from ..evaluation.retention import AFTER, BEFORE
from ..evaluation.training_samples import Space, curve_of, features_of
from ..knowledge import Knowledge, Target
from ..testbeds.loading import Loaded, LoadOptions, load_model, load_target
from ..testbeds.questions import draw
from ..testbeds.scenes import prepare
from .cells import Cell
from .inputs import testbed_of

Folders = Callable[[Cell], Path]
#: Parts of a cell's folder.
ERASURE, ATTACK_SET, IMAGES = "erasure", "set", "images.safetensors"
SAMPLES, CURVES = "samples.safetensors", "curves.json"
EVALUATION, VERDICTS, PIECES = "evaluation.json", "verdicts.json", "pieces"
#: Prompts of each group that mark a concept's space.
N_SPACE = 200
#: Name of an eraser's samples.
TRAINED = "trained on"


def make(cell: Cell, folder_of: Folders, out: Path, options: LoadOptions) -> None:
    """Make a cell.

    Args:
        cell: all cells that it needs are finished.
        folder_of: where they are.
        out: existing folder, which is filled.
        options: how models are loaded; they decide no result beside the precision.

    Raises:
        InputError: the configuration asks for what cannot be done.
    """
    makers = {"erasure": _erasure, "attack": _attack, "images": _images, "space": _space, "score": _score}
    makers[cell.kind](cell, folder_of, out, options)


def _erasure(cell: Cell, folder_of: Folders, out: Path, options: LoadOptions) -> None:
    del folder_of
    config = cell.config
    base = _base(cell, options)
    with adversarial_samples() as found:
        erasure = erase(
            base,
            [_concept(cell)],
            method=config["eraser"],
            preset=config["preset"],
            settings=config["settings"],
            words=_words(cell),
            seed=config["seed"],
        )
    erasure.save_pretrained(out / ERASURE)
    if found:
        targets = [Target(each.concept, each.words) for each in erasure.recipe.targets if each.words]
        kind = targets[0].concept.template_kind
        eraser = registry.load("erasers", config["eraser"]).preset(config["preset"], kind, config["settings"])
        features = features_of(base, found, eraser.config, targets)
        save_tensors_atomically(out / SAMPLES, {"features": features})


def _space(cell: Cell, folder_of: Folders, out: Path, options: LoadOptions) -> None:
    testbed = testbed_of(cell.config["model"])
    words = _words(cell) or (testbed.words(_concept(cell)) if testbed else None)
    assert words is not None, "a study that asks for it names words, or a model that has them"
    space = Space.of(_base(cell, options), words, N_SPACE, cell.config["seed"])
    if cell.config["target"] == "original":
        known = {"held out": space.held_out, "random tokens": space.random}
    else:
        file = folder_of(cell.needs["erasure"]) / SAMPLES
        known = {TRAINED: read_tensors(file)[0]["features"]} if file.exists() else {}
    curves = [curve_of(name, samples, space)._asdict() for name, samples in known.items()]
    write_json(out / CURVES, curves)


def _attack(cell: Cell, folder_of: Folders, out: Path, options: LoadOptions) -> None:
    config = cell.config
    loaded = _target(cell, folder_of, options)
    if config["control"] == "random_denoiser":
        loaded = loaded._replace(target=loaded.target.with_random_denoiser())
    scene, _ = prepare(loaded, n_prompts=config["n_prompts"], **_given(cell))
    attack = registry.load("attacks", config["attack"]).preset(config["effort"])
    attack.run_in(out / ATTACK_SET, scene, seed=config["seed"], every_prompt=config["every_prompt"])


def _images(cell: Cell, folder_of: Folders, out: Path, options: LoadOptions) -> None:
    testbed = testbed_of(cell.config["model"])
    assert testbed is not None, "the plan asks for images only where a testbed has questions"
    questions = testbed.questions(
        _concept(cell),
        cell.config["n_images"],
        prompt_set=cell.config["prompt_set"],
    )
    assert questions is not None
    images = draw(
        _target(cell, folder_of, options).target,
        questions,
        num_inference_steps=testbed.num_inference_steps,
        guidance_scale=testbed.guidance_scale,
    )
    save_tensors_atomically(out / IMAGES, images)


def _score(cell: Cell, folder_of: Folders, out: Path, options: LoadOptions) -> None:
    config = cell.config
    pieces = {}
    for name, each in cell.needs.items():
        if each.kind == "attack":
            pieces[name] = folder_of(each) / ATTACK_SET
        if each.kind == "images":
            pieces[f"questions/{BEFORE if name == 'before' else AFTER}"] = folder_of(each) / IMAGES
    found = evaluate(
        _target(cell, folder_of, options),
        suite=config["suite"],
        attacks=config["attacks"],
        seed=config["seed"],
        pieces=pieces,
        out=out / PIECES,
        **_given(cell),
    )
    shown = {
        name.removeprefix("attacks/"): _verdicts(
            each, AttackSet.from_pretrained(folder_of(each) / ATTACK_SET)
        )
        for name, each in cell.needs.items()
        if name.startswith("attacks/")
    }
    write_json(out / VERDICTS, shown)
    # the path that the erasure has on this machine is no part of the result
    text = found.model_copy(update={"target": config["row"]}).model_dump_json(indent=2)
    write_text_atomically(out / EVALUATION, text + "\n")
    shutil.rmtree(out / PIECES)


def _verdicts(attack: Cell, found: AttackSet) -> list[bool]:
    """Whether each prompt shows the concept; where every prompt was attacked, whether the attack shows it."""
    return [attempt.success for attempt in found.attempts] if attack.config["every_prompt"] else found.shown


def _given(cell: Cell) -> dict[str, Any]:
    """What the study names in the place of what the model brings."""
    config = cell.config
    concept = _concept(cell)
    return {
        "concept": concept.name,
        "kind": concept.kind,
        "prompt_set": config["prompt_set"],
        "words": _words(cell),
        "prompts": _file(config, "prompts"),
        "detector": config["detector"],
        "detector_options": {**config["detector_settings"], **config.get("detector_places", {})} or None,
    }


def _concept(cell: Cell) -> Concept:
    return Concept.model_validate(cell.config["concept"])


def _file(config: Mapping[str, Any], name: str) -> Path | None:
    return Path(config[f"{name}_file"]) if name in config else None


def _words(cell: Cell) -> Knowledge | None:
    file = _file(cell.config, "words")
    return None if file is None else Knowledge.from_file(file)


def _target(cell: Cell, folder_of: Folders, options: LoadOptions) -> Loaded:
    base = _base(cell, options)
    target = cell.config["target"]
    if target == "original":
        return Loaded(base, base)
    testbed = testbed_of(cell.config["model"])
    gold = testbed.gold(_concept(cell)) if testbed else None
    folder = gold if target == "gold" else folder_of(cell.needs["erasure"]) / ERASURE
    assert folder is not None, "the plan has gold only where there is one"
    erasure = Erasure.from_pretrained(folder)
    if target == "erased" and cell.needs["erasure"].config["model"] != cell.config["model"]:
        return load_target(erasure, into=base)._replace(folder=folder)
    return load_target(erasure, base)._replace(folder=folder)


def _base(cell: Cell, options: LoadOptions) -> Any:  # noqa: ANN401  (cached)
    return _loaded(cell.config["model"], cell.config["dtype"], tuple(sorted(options.items())))


@functools.lru_cache(maxsize=2)
def _loaded(name: str, dtype: str, options: tuple[tuple[str, Any], ...]) -> Any:  # noqa: ANN401
    """A model before erasing; a process that makes many cells loads it once."""
    model = load_model(name, **LoadOptions(**{**dict(options), "dtype": dtype}))  # type: ignore[typeddict-item]
    model.set_progress_bar_config(disable=True)
    return model
