"""``sgrace export``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .._util import registry
from .._util.errors import InputError
from .loading import model_options
from .options import ERASURES, FILE, FORCE, JSON, QUIET, examples, out_option
from .types import COUNTS

if TYPE_CHECKING:
    from ..testbeds.loading import LoadOptions

#: What each format writes, by its name.
SUMMARIES = {
    "erasure": "what changed and the recipe, as `sgrace erase` writes it",
    "diffusers": "a whole pipeline in a folder",
    "text-encoder": "the changed text encoders, as transformers has them",
    "single-file": "a checkpoint in the original layout, of Stable Diffusion 1, 2 and XL",
    "comfyui": "files for the folder of ComfyUI",
    "lora": "the change as a LoRA, and how much of it that leaves out",
    "a1111": "the same checkpoint for the folder of AUTOMATIC1111's web UI",
    "unet": "the changed denoiser (UNet or transformer), as diffusers has it",
}
EPILOG = examples(
    "sgrace export safe --format diffusers -o safe-model",
    "sgrace export safe --format single-file -o safe.safetensors",
    "sgrace export safe --format lora --rank 32 --evaluation evaluation -o safe-lora",
)
#: As users write them: one file of the package each.
FORMATS = [name.replace("_", "-") for name in registry.names("export")]
TABLE = "\n".join(["\b", "Formats:", *(f"  {name:<13} {SUMMARIES.get(name, '')}" for name in FORMATS)])


@click.command(epilog=f"{TABLE}\n\n{EPILOG}")
@click.argument("erasure", type=FILE)
@click.option(
    "--format", "form", required=True, type=click.Choice(FORMATS), help="What is written; see below."
)
@out_option("New folder; or new .safetensors file, where the format is one file.", required=False)
@click.option(
    "--push-to-hub",
    metavar="OWNER/NAME",
    help="Upload it to this repository of the hub, with the key in HF_TOKEN, in the place of --out.",
)
@click.option("--private", is_flag=True, help="Make a new repository private.")
@click.option("--base", metavar="MODEL", help="The model before erasing; the default is the erasure's own.")
@ERASURES
@FORCE
@click.option(
    "--rank", default=64, show_default=True, type=COUNTS, help="Rank of each matrix; for --format lora."
)
@click.option(
    "--evaluation", type=FILE, metavar="FOLDER", help="Evaluation whose figures stand on the model card."
)
@model_options
@QUIET
@JSON
def export(
    *,
    erasure: Path,
    form: str,
    out: Path | None,
    push_to_hub: str | None,
    private: bool,
    base: str | None,
    erasures: tuple[Path, ...],
    force: bool,
    rank: int,
    evaluation: Path | None,
    loading: LoadOptions,
    quiet: bool,
    as_json: bool,
) -> None:
    """Write the safe model of ERASURE so that other programs load it.

    Weights have the precision in which the concept was erased, or that of --dtype. A folder gets a model card
    (README.md); a single file says the same in its header. It is refused, with the reason, where a format
    cannot hold the model.
    """
    if out is not None and push_to_hub is not None:
        raise InputError("Name one of --out and --push-to-hub.")

    exporter = registry.load("export", form.replace("-", "_"))()
    done = exporter.of(
        (erasure, *erasures),
        out,
        base,
        push_to_hub=push_to_hub,
        private=private,
        force=force,
        evaluation=evaluation,
        rank=rank,
        options=loading,
    )
    if as_json:
        click.echo(json.dumps({"out": push_to_hub or str(out), "files": done.files, "notes": done.notes}))
    elif not quiet:
        click.echo("\n".join([*done.notes, f"{form}: {push_to_hub or out}"]))
