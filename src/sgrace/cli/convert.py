"""``sgrace convert``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .options import FILE, JSON, QUIET, examples, out_option

EPILOG = examples(
    "sgrace convert unet.pt -o unet.safetensors",
    "sgrace convert v1-5-pruned.ckpt -o v1-5-pruned.safetensors",
    "sgrace convert folder/with/pytorch_model.bin -o folder-safetensors",
)


@click.command(epilog=EPILOG)
@click.argument("source", type=FILE)
@out_option("New .safetensors file, or new folder where SOURCE is a folder.")
@QUIET
@JSON
def convert(*, source: Path, out: Path, quiet: bool, as_json: bool) -> None:
    """Write the weights of SOURCE, a pickle (.bin, .ckpt, .pt) or a folder with such files, as safetensors.

    A pickle can run any code when it is read. Tensors are read with torch.load(weights_only=True) and in no
    other way: a file that holds more is refused.
    """
    from ..models.conversion import convert as convert_weights  # noqa: PLC0415  (torch takes seconds to import)

    done = convert_weights(source, out)
    if as_json:
        click.echo(json.dumps({"out": str(out), **done._asdict()}))
    elif not quiet:
        left_out = f"   Left out, being no tensors: {', '.join(done.left_out[:8])}" if done.left_out else ""
        click.echo(f"{done.tensors} tensors in {done.files} safetensors files: {out}{left_out}")
