"""Cells of the comparison of erasers: one erasure, evaluated; a line of a log."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sgrace._util import registry
from sgrace.attacks import AttackSet
from sgrace.erasure import Erasure
from sgrace.evaluation.schema import Evaluation
from sgrace.testbeds import emoji

ORIGINAL = "original"
REFERENCES = (ORIGINAL, "gold")
PROCESSOR = "cpu"


def is_guidance(eraser: str) -> bool:
    """Whether it steers the sampling and changes no weights: who has the model can leave it out."""
    return eraser in registry.names("erasers") and registry.load("erasers", eraser).guidance_type is not None


class Row(NamedTuple):
    """One line of the tables: a method at one preset, over some seeds of erasing."""

    eraser: str
    preset: str
    seeds: int

    @classmethod
    def parse(cls, text: str) -> Row:
        """``NAME[:PRESET[:SEEDS]]``; by default the built-in model's preset or the only one, and one seed."""
        eraser, _, rest = text.partition(":")
        preset, _, seeds = rest.partition(":")
        if eraser not in REFERENCES:
            kind = registry.load("erasers", eraser)
            preset = preset or ("emoji" if "emoji" in kind.presets else kind.default_preset)
        return cls(eraser, preset, int(seeds or 1))

    @property
    def title(self) -> str:
        """As the table names it."""
        title = self.eraser if not self.preset or self.preset == "emoji" else f"{self.eraser}, {self.preset}"
        return f"{title} (guidance)" if is_guidance(self.eraser) else title


class Cell(NamedTuple):
    """What a line of the log holds."""

    evaluation: Evaluation
    recipe: dict[str, Any]
    verdicts: dict[
        str, list[bool]
    ]  # of each attack: whether each prompt shows the concept, plain or attacked
    device: str  # that it was erased and measured on


#: What `sgrace erase` does, without the images it judges and shows: the evaluation makes its own.
ERASE = """
import sys, sgrace
concept, method, preset, seed, folder = sys.argv[1:]
model = sgrace.load_model("emoji")
sgrace.erase(model, concept, method=method, preset=preset, seed=int(seed)).save_pretrained(folder)
"""


def python(*arguments: str | Path | int) -> None:
    """Run it in another process; progress bars stay visible."""
    subprocess.run([sys.executable, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def settings_of(key: dict[str, Any]) -> dict[str, Any] | None:
    """What the recipe of a cell says of its settings; references have none."""
    if key["eraser"] in REFERENCES:
        return None
    kind = emoji.resolve(key["concept"]).kind
    return dict(
        registry.load("erasers", key["eraser"]).preset(key["preset"], kind).config.model_dump(mode="json")
    )


def has_settings(row: dict[str, Any], settings: dict[str, Any] | None) -> bool:
    """Whether a line was made with these settings; those that are newer than it had their defaults then."""
    known = row["recipe"].get("config")
    if settings is None or known is None or not known.keys() <= settings.keys():
        return bool(known == settings)
    kind = registry.load("erasers", row["key"]["eraser"])
    return bool(kind.config_type(**known).model_dump(mode="json") == settings)


def cells_of(log: Path, key: dict[str, Any] | None = None) -> Iterator[tuple[dict[str, Any], Cell]]:
    """Keys and cells of a log, of one key or of all, whose presets are still what they were."""
    for row in map(json.loads, log.read_text(encoding="utf-8").splitlines() if log.exists() else []):
        if key in (None, row["key"]) and has_settings(row, settings_of(row["key"])):
            found = Evaluation.model_validate(row["evaluation"])
            yield row["key"], Cell(found, row["recipe"], row["verdicts"], row.get("device", PROCESSOR))


def cell_of(log: Path, work: Path, key: dict[str, Any], attacks: list[str]) -> Cell:
    """One cell: of the log if all these attacks are there and the preset is what it was, or made."""
    for _, cell in cells_of(log, key):
        if set(attacks) <= set(cell.verdicts):
            return cell
    folder = work / "-".join(
        str(key[name]).replace(" ", "-") for name in ("eraser", "preset", "concept", "seed")
    )
    target = "emoji"
    recipe: dict[str, Any] = {}
    more = ("--concept", key["concept"], "--base", "emoji") if key["eraser"] == ORIGINAL else ()
    if key["eraser"] == "gold":
        target = str(emoji.gold_path(key["concept"]))
    elif key["eraser"] != ORIGINAL:
        target = str(folder / "erasure")
        if not (folder / "erasure").exists():
            python("-c", ERASE, key["concept"], key["eraser"], key["preset"], key["seed"], target)
        whole = Erasure.from_pretrained(target).recipe
        recipe = whole.model_dump(mode="json", include={"config", "cost", "seconds", "peak_memory_mb"})
    result = folder / f"evaluation-{key['suite']}"
    python(
        "-m",
        "sgrace",
        "evaluate",
        target,
        "--suite",
        key["suite"],
        "--attacks",
        ",".join(attacks),
        "--out",
        result,
        *more,
    )
    evaluation = Evaluation.from_file(result / "evaluation.json")
    slim = evaluation.model_dump(exclude={"concept_space", "drift"})  # which no table here shows
    slim["target"] = folder.name  # not the path it has on this machine
    sets = {name: AttackSet.from_pretrained(result / "attacks" / name) for name in attacks}
    verdicts = {name: found.shown for name, found in sets.items()}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else PROCESSOR
    line = {"key": key, "device": device, "evaluation": slim, "recipe": recipe, "verdicts": verdicts}
    with log.open("a") as file:
        file.write(json.dumps(line) + "\n")
    return Cell(evaluation, recipe, verdicts, device)
