"""What a study would cost on models of full size: rows that like cells took, times seconds that a row takes.

    python benchmarks/study_cost.py studies/main.yaml studies/results/main.json
        [--models sd14 sdxl] [--device cuda] [--dtype bfloat16] [--batch 8]

A row is one sample through a network. Erasures and attacks are counted as results of a study have them on the
built-in model: the mean of the same eraser and preset, else of all. Images are counted by their
steps, with guidance. The networks have random weights and the models' own resolution; a row's seconds are the
median of five batches, forward alone and with the backward pass. Of erasing and attacks, which have both
kinds of rows, the least counts every row as forward alone, the most as one with gradients; attacks count a
backward pass as a row of its own. Longer runs, as in the papers' settings, cost as much more as they have
more rows. `--models` without a name measures nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

import diffusers
import torch
import transformers

from sgrace.models.families.stable_diffusion import VERSION_1
from sgrace.models.families.stable_diffusion_xl import BASE
from sgrace.study import Cell, cells_of, read_study
from sgrace.study.inputs import testbed_of
from sgrace.study.lines import Line
from sgrace.study.pace import method_of
from sgrace.study.results import read_results
from sgrace.testbeds.base import Testbed

MODELS = {"sd14": VERSION_1, "sdxl": BASE}
QUESTIONS = 7
REPEATS = 5


class Rows(NamedTuple):
    """Samples through the denoiser and through the text encoders."""

    denoiser: float
    text: float


class Seconds(NamedTuple):
    """Of one row, forward alone and with the backward pass."""

    forward: float
    both: float


def rows_of(cells: Iterable[Cell], lines: Iterable[Line]) -> dict[str, Rows]:
    """Rows of all cells of a kind; of scorings, which draw little, none."""
    erasures: dict[str, list[Rows]] = {}
    attacks: dict[str, list[Rows]] = {}
    for line in lines:
        for found_of_seed in line.evaluations:
            cost = found_of_seed.cost.get("cost", {})
            if cost.get("denoiser_rows") is not None:
                own = Rows(cost["denoiser_rows"], cost["text_encoder_rows"])
                erasures.setdefault(method_of(line.title), []).append(own)
            for row in found_of_seed.attacks:
                own = Rows(row.denoiser_rows, row.text_encoder_rows)
                attacks.setdefault(row.attack, []).append(own)
    found: dict[str, list[Rows]] = {"erasure": [], "attack": [], "images": []}
    for cell in cells:
        config = cell.config
        if cell.kind == "erasure":
            preset = config["preset"]
            title = config["eraser"] if preset == "emoji" else f"{config['eraser']}, {preset}"
            known = erasures.get(title)
            found["erasure"] += [_mean(known or [row for rows in erasures.values() for row in rows])]
        elif cell.kind == "attack":
            known = attacks.get(config["attack"])
            found["attack"] += [_mean(known or [row for rows in attacks.values() for row in rows])]
        elif cell.kind == "images":
            testbed = testbed_of(config["model"])
            assert isinstance(testbed, Testbed)
            drawn = QUESTIONS * config["n_images"]
            found["images"] += [Rows(2 * drawn * testbed.num_inference_steps, 2 * drawn)]
    return {
        kind: Rows(sum(row.denoiser for row in rows), sum(row.text for row in rows))
        for kind, rows in found.items()
    }


def _mean(rows: list[Rows]) -> Rows:
    return Rows(mean(row.denoiser for row in rows), mean(row.text for row in rows))


def network(config: dict[str, Any], device: str, dtype: torch.dtype) -> Any:  # noqa: ANN401  (of two libraries)
    """A frozen network with random weights."""
    name = config["_class_name"]
    with torch.device(device):
        if hasattr(diffusers, name):
            found = getattr(diffusers, name).from_config(config)
        else:
            kind = getattr(transformers, name)
            found = kind(kind.config_class.from_dict(config))
    return found.to(dtype).requires_grad_(requires_grad=False)


def seconds_of(run: Callable[[], None], batch: int, device: str) -> float:
    """Median seconds of a row."""

    def once() -> float:
        if device != "cpu":
            torch.cuda.synchronize()
        started = time.perf_counter()
        run()
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    once()
    return median(once() for _ in range(REPEATS)) / batch


def measured(name: str, device: str, dtype: torch.dtype, batch: int) -> dict[str, Seconds]:
    """Seconds of a row of the denoiser and of all text encoders together."""
    networks = dict(MODELS[name].networks)
    unet = network(dict(networks["unet"]), device, dtype)
    size = unet.config.sample_size
    latents = torch.randn(batch, 4, size, size, device=device, dtype=dtype)
    states = torch.randn(batch, 77, unet.config.cross_attention_dim, device=device, dtype=dtype)
    added = {
        "text_embeds": torch.randn(batch, 1280, device=device, dtype=dtype),
        "time_ids": torch.zeros(batch, 6, device=device, dtype=dtype),
    }

    def denoise() -> None:
        found = unet(latents, 500, states, added_cond_kwargs=added).sample
        if found.requires_grad:
            found.float().square().mean().backward()

    forward = seconds_of(denoise, batch, device)
    # gradients of the prompt, as attacks and erasers of the text encoder take them
    states.requires_grad_()
    denoiser = Seconds(forward, seconds_of(denoise, batch, device))
    encoders = [
        network(dict(config), device, dtype)
        for key, config in networks.items()
        if key.startswith("text_encoder")
    ]
    tokens = torch.randint(1, 40_000, (batch, 77), device=device)

    def encode() -> None:
        for encoder in encoders:
            found = encoder(tokens)[0].float().square().mean()
            if found.requires_grad:
                found.backward()

    forward = seconds_of(encode, batch, device)
    for encoder in encoders:
        encoder.requires_grad_(requires_grad=True)
    return {"denoiser": denoiser, "text": Seconds(forward, seconds_of(encode, batch, device))}


def main() -> None:
    """Count, measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--models", nargs="*", default=list(MODELS), help="none prints the rows alone")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--batch", type=int, default=8)
    arguments = parser.parse_args()
    cells = cells_of(read_study(arguments.study))
    rows = rows_of(cells, [row.line() for row in read_results(arguments.results).rows])
    print("| cells | number | denoiser rows | text encoder rows |\n|---|---|---|---|")
    for kind, own in rows.items():
        n = sum(cell.kind == kind for cell in cells)
        print(f"| {kind} | {n:,} | {own.denoiser:,.0f} | {own.text:,.0f} |", flush=True)
    if arguments.models:
        if arguments.device != "cpu" and not torch.cuda.is_available():
            parser.exit(2, "No CUDA device was found: --models without a name prints the rows alone.\n")
        print("\n| model | ms a denoiser row | ms a text row | hours, least | hours, most |")
        print("|---|---|---|---|---|")
    for name in arguments.models:
        took = measured(name, arguments.device, getattr(torch, arguments.dtype), arguments.batch)
        hours = []
        for field in Seconds._fields:
            total = 0.0
            for kind, own in rows.items():
                part = "forward" if kind == "images" else field
                total += own.denoiser * getattr(took["denoiser"], part)
                total += own.text * getattr(took["text"], part)
            hours.append(total / 3600)
        told = [f"{1000 * s.forward:.1f} / {1000 * s.both:.1f}" for s in took.values()]
        print(f"| {name} | {' | '.join(told)} | {hours[0]:,.0f} | {hours[1]:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
