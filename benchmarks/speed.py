"""Seconds, memory and FLOP/s of erasers beside the published procedure of S-GRACE, in turns.

    python benchmarks/speed.py --size emoji --what sgrace,sgrace:published,adv_unlearn
    python benchmarks/speed.py --size sd14 --what sgrace --pixels 256 --turns 1

``--what`` names erasers, each with a preset after a colon where it is not the default. Every procedure is a
process of its own, so that its peak memory is its own; they take turns. Models of full size have random
weights. Seconds are those of the processor, or of the clock with ``--device cuda``, where memory is the peak
of what tensors took there; anonymous memory is the part of the peak that no file on the disk backs. Steps are
measured and whole runs extrapolated: a step of a phase is the difference of two short runs, and the preset
says how many there are. ``--whole`` times whole runs instead, where they take seconds. FLOP/s count matrix
products, convolutions and attention; the ceiling is that of a product of two matrices (2048 x 2048, or 8192 x
8192 on CUDA) in the same precision and process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

import sgrace
from sgrace import Knowledge
from sgrace._util import registry
from sgrace._util.provenance import hardware, versions
from sgrace.concept import Concept, Kind
from sgrace.knowledge import Target

from full_size_models import MODELS, build, with_unet  # isort: skip
from machines import OF_CPU, SIDES, ceiling, clock, peak_mb, watched  # isort: skip
from published_procedure import WHOLE, Published  # isort: skip
from speed_phases import Phase, Phases, phases_of  # isort: skip

RESULTS = Path(__file__).parent / "results" / "speed.json"
PUBLISHED = "published procedure"
WORDS = Knowledge(
    source="timing",
    related=("knife", "sword", "dagger", "gun", "rifle", "pistol", "spear", "axe", "bow", "cannon"),
    unrelated=("cat", "dog", "house", "tree", "boat", "car", "apple", "chair"),
    contexts=("a picture of a {}", "a photo of a {}"),
)
KIND: Kind = "harmful"
CONCEPT = Concept(name="weapon", kind=KIND)


# -- in the process of one procedure -------------------------------------------------------------------------


def published_runner(model: sgrace.models.DiffusionModel) -> Callable[[Mapping[str, int]], Mapping[str, int]]:
    """Steps of the published procedure."""
    run = Published(model, CONCEPT.name, WORDS.related, WORDS.unrelated)

    def steps(asked: Mapping[str, int]) -> Mapping[str, int]:
        before = replace(run.work)
        for phase, n in asked.items():
            for _ in range(n):
                getattr(run, phase)()
        work = run.work
        return {"denoiser_rows": work.denoiser - before.denoiser, "text_rows": work.text - before.text}

    return steps


def eraser_runner(
    model: sgrace.models.DiffusionModel, what: str
) -> Callable[[Mapping[str, int]], Mapping[str, int]]:
    """Short runs of an eraser."""
    method, _, preset = what.partition(":")
    kind = registry.load("erasers", method)

    def run(settings: Mapping[str, int]) -> Mapping[str, int]:
        given = {key: str(value) for key, value in settings.items()}
        eraser = kind.preset(preset or None, KIND, given)
        cost = eraser.erase(model, [Target(CONCEPT, WORDS)]).recipe.cost
        return {"denoiser_rows": cost.denoiser_rows, "text_rows": cost.text_encoder_rows}

    return run


def serve(given: argparse.Namespace) -> None:
    """Run what each line of standard input asks for, and say what it took."""
    torch.set_num_threads(given.threads)
    dtype = "float32" if given.alone == PUBLISHED else given.dtype
    source = "emoji" if given.size == "emoji" else str(folder_of(given))
    saving = given.low_memory and given.alone != PUBLISHED
    options = {"device": given.device, "dtype": dtype, "threads": given.threads, "low_memory": saving}
    model = sgrace.load_model(source, **options)
    model.set_progress_bar_config(disable=True)
    run = published_runner(model) if given.alone == PUBLISHED else eraser_runner(model, given.alone)
    print("@{}", flush=True)
    peaks = {"anonymous": 0}
    with watched(peaks):
        answer(model, run, peaks)


def answer(
    model: sgrace.models.DiffusionModel,
    run: Callable[[Mapping[str, int]], Mapping[str, int]],
    peaks: Mapping[str, int],
) -> None:
    """One line on standard output for each of standard input."""
    for line in sys.stdin:
        asked = json.loads(line)
        count = asked.pop("count")
        spent: dict[str, float]
        if count:
            with FlopCounterMode(display=False, custom_mapping=OF_CPU) as counter:
                rows = run(asked)
            spent = {"flop": counter.get_total_flops()}
        else:
            if model.device.type == "cuda":
                # the matrices of the ceiling are no part of the procedure's memory
                torch.cuda.reset_peak_memory_stats(model.device)
            started = clock(model.device)
            rows = run(asked)
            spent = {"seconds": clock(model.device) - started}
        memory = {"peak_mb": peak_mb(model.device), "anonymous_mb": peaks["anonymous"]}
        found = {**spent, **rows, **memory, "ceiling": ceiling(model.device, model.dtype)}
        print("@" + json.dumps(found), flush=True)


# -- in the process that asks --------------------------------------------------------------------------------


class Procedure:
    """A procedure in a process of its own, and what its runs took."""

    def __init__(
        self, what: str, given: argparse.Namespace, phases: list[Phase], base: Mapping[str, int]
    ) -> None:
        self.phases = phases
        self.longer = [phase.longer_by(given.steps) for phase in phases]
        self.base = base
        self.timed: dict[str, dict[str, float]] = {}
        self.counted: dict[str, dict[str, float]] = {}
        arguments = ["--size", given.size, "--dtype", given.dtype, "--threads", str(given.threads)]
        arguments += ["--device", given.device, *["--low-memory"] * given.low_memory]
        arguments += ["--folder", str(given.folder), "--pixels", str(given.pixels), "--alone", what]
        self.process = subprocess.Popen(
            [sys.executable, __file__, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def answer(self) -> dict[str, float]:
        """What the process says next: nothing when its model is loaded, then what each run took."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("@"):
                found: dict[str, float] = json.loads(line[1:])
                return found
        raise SystemExit("A procedure ended early; its error stands above.")

    def _ask(self, settings: Mapping[str, int], *, count: bool) -> dict[str, float]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({**settings, "count": count}) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def time(self, bar: tqdm[NoReturn]) -> None:
        """The base and each longer phase once more; the least seconds and the largest memory stay."""
        runs = {"base": self.base, **{phase.name: phase.settings(self.base) for phase in self.longer}}
        for name, settings in runs.items():
            found = self._ask(settings, count=False)
            known = self.timed.setdefault(name, found)
            known["seconds"] = min(known["seconds"], found["seconds"])
            for key in ("peak_mb", "anonymous_mb", "ceiling"):
                known[key] = max(known[key], found[key])
            bar.update()

    def count(self, bar: tqdm[NoReturn]) -> None:
        """Operations and rows of the base and of one more step of each phase: counting them is slow."""
        runs = {"base": self.base, **{phase.name: phase.settings(self.base) for phase in self.phases}}
        for name, settings in runs.items():
            self.counted[name] = self._ask(settings, count=True)
            bar.update()

    def result(self) -> dict[str, Any]:
        """By phase and extrapolated to the whole run; of a whole run, no operations."""
        first = {key: self.timed["base"][key] for key in ("seconds", "denoiser_rows", "text_rows")}
        if self.counted:
            first["flop"] = self.counted["base"]["flop"]
        counts = [key for key in first if key != "seconds"]
        whole = dict(first)
        rows = {}
        for phase, longer in zip(self.phases, self.longer, strict=True):
            longer_by = self.timed[phase.name]["seconds"] - first["seconds"]
            # a difference of two runs may be within their noise, and would count as time that is won
            one = {"seconds": max(0.0, longer_by) / longer.by}
            one |= {key: (self.counted[phase.name][key] - first[key]) / phase.by for key in counts}
            rows[phase.name] = {
                "times": phase.times,
                **one,
                "flop_per_s": one["flop"] / one["seconds"] if one["seconds"] else None,
            }
            whole = {key: whole[key] + phase.times * one[key] for key in whole}
        return {
            "base": first,
            "phases": rows,
            "whole": whole,
            **{
                key: max(each[key] for each in self.timed.values())
                for key in ("peak_mb", "anonymous_mb", "ceiling")
            },
        }


def folder_of(given: argparse.Namespace) -> Path:
    """Where a model of random weights is."""
    place: Path = given.folder / f"{given.size}-{given.pixels}"
    return place


def lines_of(name: str, found: Mapping[str, Any], published: Mapping[str, Any]) -> list[str]:
    """The table's lines of a procedure."""
    lines = []
    for phase, row in found["phases"].items():
        per_s = row["flop_per_s"]
        rate = f"{per_s / 1e9:.0f} | {per_s / found['ceiling']:.0%}" if per_s else " | "
        rows = f"{row['denoiser_rows']:.0f}, {row['text_rows']:.0f}"
        lines.append(
            f"| {name} | {phase} | {row['times']} | {rows} | {row['seconds']:.3f} s | {rate} | | | |"
        )
    whole = found["whole"]
    ratio = whole["seconds"] / published["whole"]["seconds"]
    rows = f"{whole['denoiser_rows']:,.0f}, {whole['text_rows']:,.0f}"
    told, rate = "whole run", " | "
    if "flop" in whole:
        told += ", extrapolated"
        if not all(row["seconds"] for row in found["phases"].values()):
            told += ", at least"
        per_s = whole["flop"] / whole["seconds"]
        rate = f"{per_s / 1e9:.0f} | {per_s / found['ceiling']:.0%}"
    lines.append(
        f"| {name} | **{told}** | 1 | {rows} | {whole['seconds']:,.0f} s | {rate} "
        f"| {found['peak_mb']:.0f} MB | {found['anonymous_mb']:.0f} MB | {ratio:.2f} |"
    )
    return lines


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=["emoji", "sd14", "sdxl", "small"], default="emoji")
    parser.add_argument("--what", default="sgrace", help="erasers, joined by commas; NAME or NAME:PRESET")
    parser.add_argument("--dtype", default="float32", help="of the frozen networks; published: float32")
    parser.add_argument("--low-memory", action="store_true", help="of the erasers; published: without")
    parser.add_argument("--device", choices=list(SIDES), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=2, help="the least seconds of so many count")
    parser.add_argument(
        "--steps", type=int, default=1, help="further steps of a phase that are timed together"
    )
    parser.add_argument("--whole", action="store_true", help="time whole runs; no steps, no FLOP/s")
    parser.add_argument("--pixels", type=int, default=512, help="of the images of sd14 and sdxl")
    parser.add_argument("--folder", type=Path, default=Path("full_size"), help="for models of full size")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure and print the table."""
    given = parsed()
    if given.alone:
        serve(given)
        return
    if given.size != "emoji" and not folder_of(given).exists():
        build(with_unet(MODELS[given.size], {"sample_size": given.pixels // 8}), folder_of(given))
    steps = [Phase(name, {name: 1}, times) for name, times in WHOLE.items()]
    asked = {PUBLISHED: Phases(steps, dict.fromkeys(WHOLE, 0))}
    asked |= {what: phases_of(what, KIND) for what in given.what.split(",")}
    if given.whole:
        asked = {what: Phases([], WHOLE if what == PUBLISHED else {}) for what in asked}
    procedures = {what: Procedure(what, given, *phases) for what, phases in asked.items()}
    for procedure in procedures.values():
        procedure.answer()  # all of them load at the same time
    runs = sum(1 + len(procedure.phases) for procedure in procedures.values())
    with tqdm(desc="runs", total=runs * (given.turns + (not given.whole))) as bar:
        for _ in range(given.turns):
            for procedure in procedures.values():
                procedure.time(bar)
        for procedure in procedures.values() if not given.whole else ():
            procedure.count(bar)
    found = {name: procedure.result() for name, procedure in procedures.items()}
    where = hardware(given.device)
    size = f"{given.size}, {given.pixels} pixels"
    precision = f"{given.dtype}{', low memory' if given.low_memory else ''}"
    print(f"{size}, {precision}, {where}, {given.threads} threads, {given.turns} turns")
    heads = ("procedure", "phase", "times", "rows (denoiser, text)", "seconds", "GFLOP/s", "of the ceiling")
    print("|", " | ".join([*heads, "peak", "of it anonymous", "x published"]), "|")
    print("| --- " * 10 + "|")
    print("\n".join(line for name, row in found.items() for line in lines_of(name, row, found[PUBLISHED])))
    log = json.loads(given.results.read_text()) if given.results.exists() else []
    facts = {
        "size": given.size,
        "pixels": given.pixels,
        "dtype": given.dtype,
        "low_memory": given.low_memory,
        "threads": given.threads,
        "turns": given.turns,
        "machine": hardware(given.device),
        "versions": versions(),
    }
    given.results.write_text(json.dumps([*log, {**facts, "procedures": found}], indent=2) + "\n")


if __name__ == "__main__":
    main()
