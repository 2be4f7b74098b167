"""Where the processor's time goes in a step of the published procedure and of S-GRACE, by kind of operation.

    python benchmarks/step_profile.py --size emoji
    python benchmarks/step_profile.py --size sd14 --pixels 128 --dtype bfloat16 --steps 3

A step is the difference of two short runs under PyTorch's profiler, as in `speed.py`. The published
procedure stays in float32. Models of full size have random weights.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

import sgrace
from sgrace._util.provenance import hardware

from full_size_models import MODELS, build, with_unet  # isort: skip
from published_procedure import WHOLE  # isort: skip
from speed import KIND, PUBLISHED, eraser_runner, folder_of, published_runner  # isort: skip
from speed_phases import Phase, phases_of  # isort: skip

#: Kinds of operations, each by what the names of PyTorch's operators contain; the first that fits.
OPERATIONS = {
    "convolutions": ("conv",),
    "attention": ("scaled_dot_product", "softmax"),
    "matrix products": ("mm", "linear", "matmul", "einsum"),
    "norms": ("norm",),
    "activations": ("gelu", "silu", "sigmoid"),
    "copies": ("copy", "clone", "cat", "stack", "fill", "zero", "index", "embedding", "gather", "sort"),
    "optimiser": ("adam", "foreach", "addcdiv", "addcmul", "lerp", "sqrt"),
}
OTHER = "other"

Run = Callable[[Mapping[str, int]], object]


def operation_of(name: str) -> str:
    """The kind of an operator of PyTorch."""
    lowered = name.lower()
    found = (kind for kind, parts in OPERATIONS.items() if any(part in lowered for part in parts))
    return next(found, OTHER)


def spent(run: Run, settings: Mapping[str, int]) -> Counter[str]:
    """Microseconds of the processor in each kind of operation."""
    with profile(activities=[ProfilerActivity.CPU]) as taken:
        run(settings)
    found: Counter[str] = Counter()
    for event in taken.key_averages():
        found[operation_of(event.key)] += round(event.self_cpu_time_total)
    return found


def steps_of(
    run: Run, phases: list[Phase], base: Mapping[str, int], steps: int
) -> dict[str, dict[str, float]]:
    """Seconds of a step of each phase, by kind of operation."""
    run(base)
    shortest = spent(run, base)
    found = {}
    for phase in (each.longer_by(steps) for each in phases):
        longer = spent(run, phase.settings(base))
        # noise may make a small part of the longer run the shorter one
        found[phase.name] = {
            kind: max(0, longer[kind] - shortest[kind]) / phase.by / 1e6 for kind in [*OPERATIONS, OTHER]
        }
    return found


def table(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    """A line for each phase: its seconds, and the share of each kind of operation."""
    kinds = [*OPERATIONS, OTHER]
    lines = ["| " + " | ".join(["step", "seconds", *kinds]) + " |", "|---" * (len(kinds) + 2) + "|"]
    for name, parts in found.items():
        total = sum(parts.values())
        shares = [f"{parts[kind] / total:.0%}" for kind in kinds]
        lines.append(f"| {name} | {total:.3f} | " + " | ".join(shares) + " |")
    return lines


def main() -> None:
    """Profile, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=["emoji", "sd14", "sdxl", "small"], default="emoji")
    parser.add_argument("--what", default="sgrace", help="an eraser; NAME or NAME:PRESET")
    parser.add_argument("--dtype", default="float32", help="of the frozen networks; published: float32")
    parser.add_argument("--steps", type=int, default=1, help="of a phase, profiled together; published: 1")
    parser.add_argument("--pixels", type=int, default=512, help="of the images of sd14 and sdxl")
    parser.add_argument("--folder", type=Path, default=Path("full_size"), help="for models of full size")
    given = parser.parse_args()
    if given.size != "emoji" and not folder_of(given).exists():
        build(with_unet(MODELS[given.size], {"sample_size": given.pixels // 8}), folder_of(given))
    torch.set_num_threads(1)
    source = "emoji" if given.size == "emoji" else str(folder_of(given))
    load = partial(sgrace.load_model, source, device="cpu", threads=1)
    found = {}
    model = load(dtype="float32")
    model.set_progress_bar_config(disable=True)
    nothing = dict.fromkeys(WHOLE, 0)
    whole = [Phase(name, {name: 1}, times) for name, times in WHOLE.items()]
    for name, parts in steps_of(published_runner(model), whole, nothing, 1).items():
        found[f"{PUBLISHED}, {name}"] = parts
    model = load(dtype=given.dtype)
    model.set_progress_bar_config(disable=True)
    phases, base = phases_of(given.what, KIND)
    # preparations of a run are no steps
    phases = [phase for phase in phases if phase.name.endswith("step")]
    for name, parts in steps_of(eraser_runner(model, given.what), phases, base, given.steps).items():
        found[f"{given.what}, {name}"] = parts
    print(f"{given.size}, {given.dtype}, {hardware('cpu')}, 1 thread\n")
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
