"""How much of an erasure is enough? Interpolate between the original and the erased weights.

    python examples/strength.py --concept church --out strength.csv

At each strength the built-in judge counts images that show the concept by name, and neighbours that are still
drawn right. A good erasure has a strength at which the first is near zero and the second near one.
"""

from __future__ import annotations

import argparse
import copy
import csv
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

import sgrace
from sgrace.models import DiffusionModel
from sgrace.testbeds import emoji
from sgrace.testbeds.questions import measure


def between(model: DiffusionModel, erasure: sgrace.Erasure, strength: float) -> DiffusionModel:
    """The model with a part of the change: 0 is the original, 1 the erased model."""
    safe = erasure.apply(model)
    networks: dict[str, nn.Module] = {}
    for name in erasure.components:
        network = copy.deepcopy(model.components[name])
        erased = safe.components[name].state_dict()
        state = {key: torch.lerp(value, erased[key], strength) for key, value in network.state_dict().items()}
        network.load_state_dict(state)
        networks[name] = network
    denoiser = networks.pop(model.denoiser_component, None)
    return model.replace(denoiser=denoiser, text=networks)


def main(arguments: Sequence[str] | None = None) -> None:
    """Erase, measure at each strength, write a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--concept", default="church")
    parser.add_argument("--method", default="uce")
    parser.add_argument("--preset", default="emoji")
    parser.add_argument("--strengths", nargs="+", type=float, default=[0, 0.25, 0.5, 0.75, 1])
    parser.add_argument("--images", type=int, default=32, help="of each question")
    parser.add_argument("--steps", type=int, default=15, help="sampling steps")
    parser.add_argument("--out", type=Path, default=Path("strength.csv"))
    given = parser.parse_args(arguments)

    model = sgrace.load_model("emoji")
    erasure = sgrace.erase(model, given.concept, method=given.method, preset=given.preset)
    testbed = emoji.EmojiTestbed()
    questions = testbed.questions(testbed.resolve(given.concept), given.images)
    with given.out.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["strength", "shows the concept", "neighbours right"])
        for strength in given.strengths:
            part = between(model, erasure, strength)
            found = measure(part, questions, num_inference_steps=given.steps, guidance_scale=1.6).shares
            table.writerow([strength, found["target"].value, found["withheld neighbours"].value])
            print(f"{strength:4}  shows it {found['target']}  neighbours {found['withheld neighbours']}")


if __name__ == "__main__":
    main()
