"""What several kinds of cells read: models, and what the study names in the place of what these bring."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...concept import Concept
from ...erasure import Erasure
from ...knowledge import Knowledge
from ...testbeds.loading import Loaded, LoadOptions, load_model, load_target
from ..cell import Cell
from ..inputs import testbed_of

Folders = Callable[[Cell], Path]
#: Parts of a cell's folder.
ERASURE, ATTACK_SET, IMAGES, SAMPLES = "erasure", "set", "images.safetensors", "samples.safetensors"


def given(cell: Cell) -> dict[str, Any]:
    """What the study names in the place of what the model brings."""
    config = cell.config
    concept = concept_of(cell)
    return {
        "concept": concept.name,
        "kind": concept.kind,
        "prompt_set": config["prompt_set"],
        "words": words_of(cell),
        "prompts": _file(config, "prompts"),
        "detector": config["detector"],
        "detector_options": {**config["detector_settings"], **config.get("detector_places", {})} or None,
    }


def concept_of(cell: Cell) -> Concept:
    """The concept that is erased."""
    return Concept.model_validate(cell.config["concept"])


def _file(config: Mapping[str, Any], name: str) -> Path | None:
    return Path(config[f"{name}_file"]) if name in config else None


def words_of(cell: Cell) -> Knowledge | None:
    """The words of the study; None where the model brings its own."""
    file = _file(cell.config, "words")
    return None if file is None else Knowledge.from_file(file)


def target_of(cell: Cell, folder_of: Folders, options: LoadOptions) -> Loaded:
    """The model that is measured, with the model before erasing."""
    base = base_of(cell, options)
    target = cell.config["target"]
    if target == "original":
        return Loaded(base, base)
    testbed = testbed_of(cell.config["model"])
    gold = testbed.gold(concept_of(cell)) if testbed else None
    folder = gold if target == "gold" else folder_of(cell.needs["erasure"]) / ERASURE
    assert folder is not None, "the plan has gold only where there is one"
    erasure = Erasure.from_pretrained(folder)
    if target == "erased" and cell.needs["erasure"].config["model"] != cell.config["model"]:
        return load_target(erasure, into=base)._replace(folder=folder)
    return load_target(erasure, base)._replace(folder=folder)


def base_of(cell: Cell, options: LoadOptions) -> Any:  # noqa: ANN401  (cached)
    """The model before erasing."""
    return _loaded(cell.config["model"], cell.config["dtype"], tuple(sorted(options.items())))


@functools.lru_cache(maxsize=2)
def _loaded(name: str, dtype: str, options: tuple[tuple[str, Any], ...]) -> Any:  # noqa: ANN401
    """A model before erasing; a process that makes many cells loads it once."""
    model = load_model(name, **LoadOptions(**{**dict(options), "dtype": dtype}))  # type: ignore[typeddict-item]
    model.set_progress_bar_config(disable=True)
    return model
