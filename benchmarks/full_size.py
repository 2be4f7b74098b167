"""Erasing from models of full size with random weights: seconds and peak memory of each run.

    python benchmarks/full_size.py [--models sd14 sdxl sd3] [--methods sgrace esd uce] [--low-memory]
        [--device auto] [--dtype bfloat16] [--folder DIR] [--results FILE]

A model is written to disk once, loaded by a process of its own for each method, erased from in two training
steps, and the erasure is saved. Random weights cost what real ones cost; images would be noise.
Rows that FILE has already are not run again. A run that would leave the machine less than 1 GB stops itself.

Peak memory is the process's own: all resident pages, and those of them that are no mapped files, which the
system cannot take back. ``--models small`` is a model of a few seconds, to try the script.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch

import sgrace
from sgrace import Knowledge
from sgrace._util.provenance import device_memory_mb, peak_memory_mb, versions

from full_size_models import MODELS, build  # isort: skip
from machines import status_mb, watched  # isort: skip

RESULTS = Path(__file__).parent / "results" / "full_size.json"
WORDS = Knowledge(
    source="timing",
    related=("knife", "sword"),
    unrelated=("cat", "dog", "house"),
    contexts=("a picture of a {}",),
)
SETTINGS: dict[str, dict[str, str]] = {
    "sgrace": {
        "rounds": "1",
        "attack_steps": "1",
        "edit_steps": "2",
        "n_adversarial": "2",
        "n_retain": "4",
        "n_pairs": "1",
        "retain_pool": "2",
        "replacement": "cat",
        "num_inference_steps": "20",
        "timestep_low": "0.949",  # a partial sample stops after its first step
        "timestep_high": "0.951",
    },
    "esd": {"iterations": "2", "pool": "2", "num_inference_steps": "2"},
    "uce": {},
}


# -- one run ------------------------------------------------------------------------------------------------


class Clock(NamedTuple):
    """Time, and the processor's time of this process: they differ where others run beside it."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Clock:
        """As it is now."""
        return cls(time.monotonic(), time.process_time())


def spent(kind: str, clock: Sequence[Clock]) -> dict[str, float]:
    """Seconds between the stages."""
    times = [getattr(each, kind) for each in clock]
    names = ("load", "erase", "save")
    return {
        name: round(after - before, 1) for name, (before, after) in zip(names, pairwise(times), strict=True)
    }


def run(method: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Load, erase, save: what each took."""
    peaks = {"anonymous": 0}
    with watched(peaks):
        clock = [Clock.now()]
        model = sgrace.load_model(
            str(folder), device=options.device, dtype=options.dtype, low_memory=options.low_memory
        )
        model.batch_size = 1
        clock.append(Clock.now())
        memory = {"loaded": peak_memory_mb(), "anonymous_loaded": peaks["anonymous"]}
        settings = {**SETTINGS[method], **({"site": "inlet"} if options.inlet else {})}
        erasure = sgrace.erase(model, "weapon", method=method, settings=settings, words=WORDS)
        clock.append(Clock.now())
        erasure.save_pretrained(folder.parent / "erasure")
        clock.append(Clock.now())
    recipe = erasure.recipe
    return {
        "denoiser_parameters": sum(p.numel() for p in model.denoiser.parameters()),
        "parameters": sum(p.numel() for part in model.components.values() for p in part.parameters()),
        "trained_parameters": recipe.cost.trained_parameters,
        "latents": list(model.latent_shape),
        "denoiser_rows": recipe.cost.denoiser_rows,
        "text_encoder_rows": recipe.cost.text_encoder_rows,
        "seconds": spent("wall", clock),
        "cpu_seconds": spent("cpu", clock),
        "seconds_by_phase": recipe.details.get("seconds_by_phase", {}),
        "memory_mb": {**memory, "peak": peak_memory_mb(), "peak_anonymous": peaks["anonymous"]},
        "device_memory_mb": device_memory_mb(model.device),
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, "
        f"{status_mb('/proc/meminfo', 'MemTotal') / 1024:.0f} GB",
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "versions": versions(),
    }


# -- all runs -----------------------------------------------------------------------------------------------


def child(*arguments: str) -> dict[str, Any]:
    """What a process of its own prints last, as JSON."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, check=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown."""
    heads = "| run | parameters | trained | load, CPU | erase, CPU | save, CPU | peak | of it anonymous |"
    lines = [heads, "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for name, row in rows.items():
        if "stopped" in row:
            lines.append(f"| {name} | {row['stopped']} | | | | | | |")
            continue
        seconds, memory = row["cpu_seconds"], row["memory_mb"]
        times = " | ".join(f"{seconds[key]:.0f} s" for key in ("load", "erase", "save"))
        sizes = f"{row['parameters'] / 1e9:.2f} G | {row['trained_parameters'] / 1e6:.0f} M"
        peaks = f"{memory['peak'] / 1024:.1f} GiB | {memory['peak_anonymous'] / 1024:.1f} GiB"
        lines.append(f"| {name} | {sizes} | {times} | {peaks} |")
    return "\n".join(lines)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["sd14", "sdxl", "sd3"])
    parser.add_argument("--methods", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--low-memory", action="store_true")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument(
        "--folder", type=Path, default=Path("full_size"), help="for the models; 16 GB at most"
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--alone", choices=["build", "run"], help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run what is missing and print the table."""
    options = parsed()
    name, method = options.models[0], options.methods[0]
    folder = options.folder / name
    options.inlet = method == "uce" and name == "sd3"  # the one site that has a closed form there
    if options.alone == "build":
        build(MODELS[name], folder)
        print("{}")
        return
    if options.alone == "run":
        print(json.dumps(run(method, folder, options)))
        return
    rows = json.loads(options.results.read_text()) if options.results.exists() else {}
    common = ["--folder", str(options.folder), "--device", options.device, "--dtype", options.dtype]
    common += ["--low-memory"] if options.low_memory else []
    for name in options.models:
        for method in options.methods:
            key = f"{name} {method} {options.dtype}{' low memory' if options.low_memory else ''}"
            if key in rows:
                continue
            given = ["--models", name, "--methods", method, *common]
            if not (options.folder / name / "model_index.json").exists():
                child("--alone", "build", *given)
            rows[key] = child("--alone", "run", *given)
            shutil.rmtree(options.folder / "erasure", ignore_errors=True)
            options.results.write_text(json.dumps(rows, indent=2) + "\n")
        shutil.rmtree(options.folder / name, ignore_errors=True)
    print(table(rows))


if __name__ == "__main__":
    main()
