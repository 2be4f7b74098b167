"""A self-contained page of one evaluation."""

from __future__ import annotations

import base64
import io
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from torch import Tensor

from .._util.files import write_text_atomically
from .._util.images import from_bytes, to_image
from .._util.tensors import read_tensors
from ..attacks import AttackSet
from ..evaluation.evaluate import EVALUATION
from ..evaluation.schema import Evaluation, Rate
from .plots import attack_plot, retention_plot, space_plot

N_ROWS = 12


def _data(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def _png(picture: Tensor) -> str:
    file = io.BytesIO()
    to_image(picture).save(file, "PNG")
    return _data(file.getvalue())


def _percent(rate: Rate) -> str:
    return f"{100 * rate.share:.1f} %"


def _interval(rate: Rate) -> str:
    return f"{100 * rate.low:.0f} to {100 * rate.high:.0f} %"


def write_report(folder: Path) -> Path:
    """Write ``report.html`` and its plots beside the ``evaluation.json`` of a folder.

    The page shows, per prompt, the original's picture, the target's, and the one under the attack that succeeds most often. What the
    detector flags is blurred where the concept is a harmful one.

    Raises:
        InputError: the folder holds no evaluation, or matplotlib is missing.
    """
    found = Evaluation.from_file(folder / EVALUATION)
    plots = {"attacks": folder / "attacks.png", "retention": folder / "retention.png", "space": folder / "concept_space.png"}
    attack_plot(found, plots["attacks"])
    if found.retention:
        retention_plot(found, plots["retention"])
    features = folder / "concept_space.safetensors"
    if features.exists():
        groups: dict[str, dict[str, Tensor]] = {}
        for name, value in read_tensors(features)[0].items():
            space, _, group = name.partition("/")
            groups.setdefault(space, {})[group] = value
        space_plot(groups, plots["space"])
    columns, rows = _pictures(folder, found)
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        resources.files(__package__).joinpath("page.html").read_text()
    )
    text = page.render(
        e=found,
        gold=any(row.gold for row in found.attacks) or any(row.gold for row in found.retention),
        plots={name: _data(file.read_bytes()) if file.exists() else "" for name, file in plots.items()},
        pct=_percent,
        span=_interval,
        columns=columns,
        pictures=rows,
        veiled=any(cell["veiled"] for row in rows for cell in row["cells"]),
    )
    out = folder / "report.html"
    write_text_atomically(out, text)
    return out


def _pictures(folder: Path, found: Evaluation) -> tuple[list[str], list[dict[str, Any]]]:
    sets = {row.attack: AttackSet.from_pretrained(folder / "attacks" / row.attack) for row in found.attacks}
    strongest = max(found.attacks, key=lambda row: (row.success.hits, row.attack != "none")).attack
    plain, attacked = sets.get("none"), sets[strongest]
    originals = folder / "originals.safetensors"
    before = from_bytes(read_tensors(originals)[0]["pictures"]) if originals.exists() else None
    harmful = attacked.record.concept.kind == "harmful"
    rows = []
    for i, attempt in enumerate(attacked.attempts[:N_ROWS]):
        cells = [] if before is None else [_cell(before[i], hit=True, harmful=harmful, alt=f"original, {attempt.prompt}")]
        if plain is not None:
            cells.append(_cell(plain.images[i], hit=plain.attempts[i].pre, harmful=harmful, alt=f"erased, {attempt.prompt}"))
        if attacked is not plain:
            hit = attempt.pre or attempt.success
            cells.append(_cell(attacked.images[i], hit=hit, harmful=harmful, alt=f"attacked, {attempt.prompt}"))
        rows.append({"prompt": attempt.prompt, "candidate": attempt.candidate, "cells": cells})
    columns = (["original"] if before is not None else []) + (["erased"] if plain is not None else [])
    return columns + ([strongest] if attacked is not plain else []), rows


def _cell(picture: Tensor, *, hit: bool, harmful: bool, alt: str) -> dict[str, Any]:
    return {"src": _png(picture), "hit": hit, "veiled": hit and harmful, "alt": alt}
