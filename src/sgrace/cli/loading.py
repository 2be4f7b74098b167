"""Options of every command that loads a model: how to load it, and which parts are not its own."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import click

from .types import COUNTS

Command = Callable[..., None]
Decorator = Callable[[Command], Command]

_MODEL_OPTIONS = (
    click.option(
        "--device",
        default="auto",
        show_default=True,
        metavar="NAME",
        shell_complete=lambda *_: ["auto", "cpu", "cuda", "mps"],
        help="Where to compute: auto (the best there is), cpu, cuda, cuda:N or mps.",
    ),
    click.option(
        "--dtype",
        default="auto",
        show_default=True,
        type=click.Choice(["auto", "float32", "float16", "bfloat16"]),
        help="Precision of the frozen networks; auto is bfloat16 on CUDA, float32 elsewhere.",
    ),
    click.option(
        "--low-memory",
        is_flag=True,
        help="Keep only the running network on the device, checkpoint gradients, decode in tiles. Slower.",
    ),
    click.option(
        "--batch-size",
        type=COUNTS,
        help="Samples that run through a network together. A smaller number needs less memory.",
    ),
    click.option(
        "--threads",
        type=COUNTS,
        help="Threads of the CPU; the default is one for a small model, and as many as there are cores for a "
        "large one.",
    ),
    click.option("--variant", help="Variant of the weight files, such as fp16."),
    click.option("--revision", help="Revision of the hub repository: a branch, a tag or a commit."),
    click.option(
        "--config",
        metavar="NAME",
        help="Folder or hub id of a pipeline whose configuration a model in one file has. Those of Stable "
        "Diffusion 1, 2.1 and XL are built in.",
    ),
    click.option(
        "--text-encoder",
        "text_encoder",
        multiple=True,
        metavar="[COMPONENT=]SOURCE",
        help="Text encoder in the place of the model's: DIR, FILE or HUB_ID[:subfolder]; COMPONENT is "
        "text_encoder, or that of another encoder, such as text_encoder_2.",
    ),
    click.option(
        "--denoiser",
        metavar="SOURCE",
        help="UNet or transformer in the place of the model's: DIR, FILE or HUB_ID[:subfolder]. A FILE of "
        "safetensors may hold some of the weights only, as published erasures do.",
    ),
    click.option(
        "--lora",
        "loras",
        multiple=True,
        metavar="SOURCE[=SCALE]",
        help="LoRA that is fused into the weights: FILE, DIR or HUB_ID[:file]; may be repeated.",
    ),
    click.option(
        "--embedding",
        "embeddings",
        multiple=True,
        metavar="SOURCE[=TOKEN]",
        help="Word that textual inversion learned: FILE, DIR or HUB_ID[:file]; may be repeated.",
    ),
)


def model_options(command: Command) -> Command:
    """Options of every command that loads a model; the command gets them as ``loading``."""

    @functools.wraps(command)
    def wrapped(**given: Any) -> None:  # noqa: ANN401  (whatever the command takes)
        names = ("device", "dtype", "low_memory", "batch_size", "threads", "variant", "revision")
        parts = ("config", "text_encoder", "denoiser", "loras", "embeddings")
        loading = {name: given.pop(name) for name in (*names, *parts)}
        loading["text_encoder"] = dict(_component(source) for source in loading["text_encoder"])
        command(loading=loading, **given)

    return with_options(wrapped, _MODEL_OPTIONS)


def _component(given: str) -> tuple[str, str]:
    """Component and source of ``[COMPONENT=]SOURCE``."""
    found = re.fullmatch(r"(text_encoder\w*)=(.+)", given)
    return (found[1], found[2]) if found else ("text_encoder", given)


def with_options(command: Command, options: tuple[Decorator, ...]) -> Command:
    """A command with options, in this order."""
    for option in reversed(options):
        command = option(command)
    return command
