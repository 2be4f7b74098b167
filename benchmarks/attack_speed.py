"""Attacks on many long prompts at once, beside a loop over single prompts in which all weights get gradients.

    python benchmarks/attack_speed.py --size sd14 --prompts 142 --dtype bfloat16 [--device cuda]
    python benchmarks/attack_speed.py --size emoji --prompts 24

A gradient step, or a generation of Ring-A-Bell, is the difference of two short runs on all prompts. The loop
takes the same steps as a script for one prompt does: in float32, with rows of full length, one prompt after
the other, and with gradients of every weight. Models of full size have random weights. Seconds are those of
the processor, or of the clock on CUDA; memory is the process's largest so far, or that of tensors on CUDA.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from tqdm import tqdm

import sgrace
from sgrace._util import registry
from sgrace._util.provenance import hardware
from sgrace.attacks import Prompt, Scene
from sgrace.attacks.session import Session
from sgrace.detectors.never import Never
from sgrace.models import DiffusionModel, Tokens

from full_size_models import MODELS, build, with_unet  # isort: skip
from machines import clock, peak_mb  # isort: skip
from speed import CONCEPT, WORDS  # isort: skip

#: Settings of a run of so many steps, in which no image is checked before the end.
SETTINGS: dict[str, Callable[[int], dict[str, int]]] = {
    "unlearn_diff_atk": lambda n: {"n_timesteps": 1, "iterations": n},
    "p4d_n": lambda n: {"iterations": n, "check_every": n + 1},
    "ring_a_bell_hard": lambda n: {"generations": n, "restarts": 1},
}
#: Individuals of Ring-A-Bell's search.
POPULATION = registry.load("attacks", "ring_a_bell_hard").preset("standard").config.population
#: Words of prompts in the nudity table: 5 to 55, so that some are longer than the text encoder reads.
LONGEST = 55


def scene_of(model: DiffusionModel, n: int) -> Scene:
    """Prompts of random words, of the lengths of the nudity table."""
    rng = random.Random(0)
    words = [*WORDS.related, *WORDS.unrelated]
    texts = [" ".join(rng.choices(words, k=rng.randint(5, LONGEST))) for _ in range(n)]
    return Scene(
        target=model,
        original=model,
        concept=CONCEPT,
        words=WORDS,
        detector=Never(),
        prompts=[Prompt(text, seed) for seed, text in enumerate(texts)],
        # images are drawn in both runs of a difference: they cost time and no step
        num_inference_steps=1,
        guidance_scale=7.5,
    )


class Spent(NamedTuple):
    """What a run took."""

    seconds: float
    denoiser_rows: int = 0


def attacked(name: str, scene: Scene, steps: int) -> Spent:
    """A run of so many steps on all prompts."""
    preset = "standard" if name == "ring_a_bell_hard" else "full"
    settings = {key: str(value) for key, value in SETTINGS[name](steps).items()}
    attack = registry.load("attacks", name).preset(preset, settings)
    started = clock(scene.target.device)
    found = attack.run(scene)
    return Spent(clock(scene.target.device) - started, found.record.spent.denoiser_rows)


def looped(name: str, scene: Scene, steps: int) -> Spent:
    """So many steps on each prompt, one prompt after the other; its rows are not counted."""
    model = scene.target
    started = clock(model.device)
    for prompt in scene.prompts:
        session = Session(replace(scene, prompts=[prompt]), sgrace.attacks.Budget(), 0)
        tokens = model.text.main.tokenize([prompt.text])
        for _ in range(steps):
            if name == "ring_a_bell_hard":
                model.encode_tokens(tokens[[0] * POPULATION])  # rows of full length
            else:
                gradient_step(session, tokens, imitates=name == "p4d_n")
            model.denoiser.zero_grad(set_to_none=True)
            model.text.main.module.zero_grad(set_to_none=True)
    return Spent(clock(model.device) - started)


def gradient_step(session: Session, tokens: Tokens, *, imitates: bool) -> None:
    """The gradient of one prompt's denoising error; where it imitates, the goal is a prediction."""
    model = session.target
    clean = session.noise
    timesteps = model.schedule.sample_timesteps(1, session.generator).to(model.device)
    noise = model.noise(1, session.generator)
    noisy = model.schedule.add_noise(clean, noise, timesteps)
    goal = model.schedule.target(clean, noise, timesteps)
    if imitates:
        with torch.no_grad():
            goal = model.predict(noisy, timesteps, session.cond)
    embeddings = model.text.main.embed(tokens.ids).detach().requires_grad_()
    cond = model.encode_tokens(tokens, embeddings)
    torch.autograd.backward(F.mse_loss(model.predict(noisy, timesteps, cond), goal))


class Measured(NamedTuple):
    """What a step of one prompt takes, and how many samples all runs put through the denoiser in a second."""

    seconds: float
    peak_mb: int
    rows_per_s: float


def measured(
    run: Callable[[str, Scene, int], Spent], name: str, scene: Scene, given: argparse.Namespace
) -> Measured:
    """The difference of a long and a short run, after one of a few prompts that warms up."""
    device = scene.target.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    run(name, replace(scene, prompts=scene.prompts[: given.batch_size]), 1)
    short = run(name, scene, 1)
    long = run(name, scene, 1 + given.steps)
    seconds = (long.seconds - short.seconds) / given.steps / len(scene.prompts)
    rows = short.denoiser_rows + long.denoiser_rows
    return Measured(seconds, peak_mb(device), rows / (short.seconds + long.seconds))


def loaded(source: str, dtype: str, given: argparse.Namespace) -> DiffusionModel:
    """The model in a precision."""
    model = sgrace.load_model(source, device=given.device, dtype=dtype, threads=1)
    model.set_progress_bar_config(disable=True)
    model.batch_size = given.batch_size
    return model


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=["emoji", "sd14", "sdxl", "small"], default="emoji")
    parser.add_argument("--attacks", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--looped", type=int, default=4, help="prompts of the loop")
    parser.add_argument("--steps", type=int, default=3, help="that are timed")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--dtype", default="float32", help="of the attacked model; of the loop: float32")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--pixels", type=int, default=512, help="of the images of sd14 and sdxl")
    parser.add_argument("--folder", type=Path, default=Path("full_size"), help="for models of full size")
    return parser.parse_args()


def main() -> None:
    """Measure and print the table."""
    given = parsed()
    folder = given.folder / f"{given.size}-{given.pixels}"
    if given.size != "emoji" and not folder.exists():
        build(with_unet(MODELS[given.size], {"sample_size": given.pixels // 8}), folder)
    source = "emoji" if given.size == "emoji" else str(folder)

    model = loaded(source, given.dtype, given)
    scene = scene_of(model, given.prompts)
    own = {name: measured(attacked, name, scene, given) for name in tqdm(given.attacks, "attacks")}
    model = loaded(source, "float32", given)
    for module in model.components.values():
        module.requires_grad_(requires_grad=True)
    scene = scene_of(model, given.looped)
    loop = {name: measured(looped, name, scene, given) for name in tqdm(given.attacks, "loops")}
    print(
        f"{given.size}, {given.pixels} pixels, {given.prompts} prompts of 5 to {LONGEST} words, "
        f"{given.dtype}, {hardware(given.device)}, batches of {given.batch_size}"
    )
    heads = ("attack", "ms a prompt and step", "prompts/s", "rows/s", "peak", "loop, ms", "loop, peak")
    print("|", " | ".join([*heads, "loop / attack"]), "|")
    print("| --- " * 8 + "|")
    for name in given.attacks:
        fast = own[name]
        slow = loop[name]
        print(
            f"| {name} | {fast.seconds * 1e3:.2f} | {1 / fast.seconds:.1f} | {fast.rows_per_s:.1f} "
            f"| {fast.peak_mb} MB | {slow.seconds * 1e3:.2f} | {slow.peak_mb} MB "
            f"| {slow.seconds / fast.seconds:.1f} |"
        )


if __name__ == "__main__":
    main()
