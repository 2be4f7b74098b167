"""Command line: ``sgrace erase | generate | attack | evaluate | list | env | emoji``."""

from __future__ import annotations

import os

import click

from .attack import attack
from .emoji import emoji
from .erase import erase, generate
from .evaluate import evaluate
from .show import env, list_


@click.group()
@click.version_option(package_name="sgrace")
def main() -> None:
    """Erase a concept from a text-to-image model so that it stays erased under attack."""
    for name, value in {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "DIFFUSERS_VERBOSITY": "error",
    }.items():
        os.environ.setdefault(name, value)


for command in (erase, generate, attack, evaluate, list_, env, emoji):
    main.add_command(command)
