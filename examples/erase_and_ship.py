"""Erase a concept, look at both models, and write the safe one for other programs.

    python examples/erase_and_ship.py --concept church --out shipped

By default it takes the built-in model and a closed form, which takes seconds; ``--method sgrace --preset
text`` is the robust choice. The folder then holds the erasure, a picture of both models for the same seeds,
and a pipeline of diffusers.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

import sgrace
from sgrace.models import DiffusionModel


def rows(models: Sequence[DiffusionModel], prompts: Sequence[str], steps: int) -> Image.Image:
    """A row of images for each model; the seed of an image is its column."""
    seeds = list(range(len(prompts)))
    drawn = [model.generate(list(prompts), seeds, num_inference_steps=steps) for model in models]
    pixels = torch.cat([torch.cat(list(images.cpu()), 2) for images in drawn], 1)  # (3, height, width)
    return Image.fromarray(((pixels + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())


def main(arguments: Sequence[str] | None = None) -> None:
    """Erase, draw, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="emoji", help="built-in model, folder, file or hub id")
    parser.add_argument("--concept", default="church")
    parser.add_argument("--method", default="uce")
    parser.add_argument("--preset", default="emoji")
    parser.add_argument("--steps", type=int, default=15, help="sampling steps of the picture")
    parser.add_argument("--out", type=Path, default=Path("shipped"))
    given = parser.parse_args(arguments)

    model = sgrace.load_model(given.model)
    erasure = sgrace.erase(model, given.concept, method=given.method, preset=given.preset)
    erasure.save_pretrained(given.out / "erasure")

    safe = erasure.apply(model)  # `model` itself is untouched
    prompts = [
        f"a flat picture of {given.concept}",
        f"a 3d picture of {given.concept}",
        "a flat picture of apple",
    ]
    rows([model, safe], prompts, given.steps).save(given.out / "before_after.png")

    erasure.export(given.out / "pipeline", "diffusers", base=model)
    print(f"{erasure!r} is in {given.out}")


if __name__ == "__main__":
    main()
