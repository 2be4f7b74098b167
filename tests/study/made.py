"""A study of a tiny model with random weights, whose cells take moments, and what its cells hold."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import yaml

from sgrace._util.hashing import sha256_of_json, sha256_of_tensors
from sgrace._util.tensors import read_tensors
from sgrace._util.text import read_json
from sgrace.study import Cell, Store, cells_of, read_study
from sgrace.testbeds.loading import LoadOptions

from ..conftest import tiny_pipeline

SMOKE = Path(__file__).parents[2] / "studies" / "smoke.yaml"
OPTIONS = LoadOptions(device="cpu")
#: What differs between two runs of the same cell: clocks, memory and machines.
CLOCKS = {"seconds", "seconds_by_phase", "peak_memory_mb", "machine", "cost", "versions", "spent"}
#: Digests and sizes of files that hold clocks.
OF_CLOCKS = {"sha256", "bytes"}


def write_study(folder: Path, **fields: Any) -> Path:
    """The study's file, beside its model, words and prompts."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "tiny").exists():
        tiny_pipeline().save_pretrained(folder / "tiny")
        (folder / "words.txt").write_text("church\nchapel\n\ndog, tree\nboat, house\n")
        (folder / "prompts.csv").write_text("seed,prompt\n5,a photo of church\n6,church\n")
    given = {
        "name": "tiny",
        "model": str(folder / "tiny"),
        "concepts": ["church"],
        "kind": "object",
        "words": "words.txt",
        "prompts": "prompts.csv",
        "detector": "always",
        "suite": "quick",
        "attacks": ["none"],
        "references": ["original"],
        "erasers": ["uce", {"eraser": "esd", "preset": "release-2025", "settings": ESD}],
    }
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump({**given, **fields}, sort_keys=False))
    return file


ESD = {"iterations": "2", "batch": "2", "pool": "3", "num_inference_steps": "4"}


def cells(file: Path) -> list[Cell]:
    return cells_of(read_study(file))


def results(store: Store, every: list[Cell]) -> dict[str, dict[str, str]]:
    """Digests of all that finished cells hold, but for clocks and machines, by cell."""
    return {cell.id: digests(store.path(cell)) for cell in every if store.is_finished(cell)}


def digests(folder: Path) -> dict[str, str]:
    """Of the files in a folder, but for clocks and machines."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file.relative_to(folder)): _digest(file) for file in files}


def _digest(file: Path) -> str:
    if file.suffix == ".safetensors":
        return sha256_of_tensors(read_tensors(file)[0])
    if file.suffix == ".json":
        return sha256_of_json(_timeless(read_json(file)))
    if file.suffix in {".md", ".html"}:
        return ""  # cards and reports tell the time
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(each) for name, each in value.items() if name not in CLOCKS | OF_CLOCKS}
    return [_timeless(each) for each in value] if isinstance(value, list) else value
