"""Hostile inputs at every door: an error in one sentence or a result; nothing runs or leaves its folder."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import sgrace
from sgrace._util.errors import InputError
from sgrace.evaluation.evaluate import EVALUATION

from ..conftest import HOSTILE, tiny_pipeline
from ..report.made import attack_row, evaluation
from ..study.made import write_study
from ..study.test_results import results, row
from .doors import DOORS, Home, inputs_of
from .inputs import CANARY

#: Longest sentence of an error.
LONGEST = 700


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    root = tmp_path_factory.mktemp("home")
    model = sgrace.load_model(tiny_pipeline(), device="cpu")
    model.set_progress_bar_config(disable=True)
    words = sgrace.Knowledge(source="test", related=("chapel",), unrelated=("dog",), replacements=("house",))
    sgrace.erase(model, "church", method="uce", words=words).save_pretrained(root / "erasure")
    prompts = [sgrace.attacks.Prompt("a photo of church", 1)]
    found = sgrace.attack(
        model,
        "church",
        "none",
        original=model,
        words=words,
        prompts=prompts,
        detector="always",
        kind="object",
    )
    found.save_pretrained(root / "set")
    (root / EVALUATION).write_text(evaluation(attack_row("none", 1)).model_dump_json())
    (root / "results.json").write_text(results(row("uce", "0110", "0000")).model_dump_json())
    study = yaml.safe_load(write_study(root / "study").read_text())
    return Home(model, root / "erasure", root / "set", root / EVALUATION, root / "results.json", study)


def snapshot(folder: Path) -> set[tuple[str, int]]:
    return {(str(path.relative_to(folder)), path.stat().st_size) for path in folder.rglob("*")}


@pytest.mark.parametrize("name", DOORS)
def test_hostile_inputs(
    name: str,
    home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    door = DOORS[name]
    (tmp_path / "mine").write_text("untouched")
    refused = 0
    faults = []
    for number, given in enumerate(inputs_of(door, home)):
        folder = tmp_path / "given" / str(number)
        folder.mkdir(parents=True)
        monkeypatch.chdir(folder)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                door.enter(given, folder, home)
        except InputError as error:
            refused += 1
            if fault := unclear(str(error)):
                faults.append(f"{given!r:.80}: {fault}: {error!s:.300}")
        except Exception as error:  # noqa: BLE001  (whatever gets through is what is looked for)
            faults.append(f"{given!r:.80}: {type(error).__name__}: {error!s:.300}")
        assert not list(folder.rglob(CANARY)), f"{given!r:.200} was executed"
    assert not faults, f"{len(faults)} of {number + 1}:\n" + "\n".join(faults[:40])
    assert refused, "no input was hostile"
    outside = {path for path, _ in snapshot(tmp_path) if not path.startswith("given")}
    assert outside == {"mine"}
    assert not list(Path(os.sep).glob(CANARY))
    record_property(HOSTILE, f"{number + 1} {name}, of which {refused} were refused")


def unclear(message: str) -> str | None:
    """What is wrong with an error's message."""
    if not message.isprintable():
        return "not one printable line"
    if len(message) > LONGEST:
        return f"{len(message)} characters"
    if "Traceback" in message or message[-1] not in ".?":
        return "no sentence"
    return None
