"""``sgrace generate``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from .._util.errors import InputError
from .._util.text import shown
from .loading import model_options
from .options import ERASURES, FILE, FORCE, JSON, QUIET, SEED, examples, out_option
from .program import goes_on_in
from .types import COUNTS, FiniteRange

if TYPE_CHECKING:
    from torch import Tensor

    from ..attacks import Prompt
    from ..models import DiffusionModel
    from ..testbeds.loading import LoadOptions

LIST = "images.json"
MAX_IN_SHEET = 1000
MAX_SLUG = 40

EPILOG = examples(
    'sgrace generate "a flat picture of dagger" --erasure safe -o dagger.png',
    "sgrace generate --prompts prompts.csv --num-images 4 --erasure safe -o images",
    "sgrace generate --prompts coco.csv --height 512 --width 768 --erasure safe -o images --sheet all.png",
    'sgrace generate "a church" --erasure a --erasure b --num-inference-steps 50 -o church.png',
)


class Wanted(NamedTuple):
    """One image to be drawn."""

    file: str
    prompt: str
    seed: int
    guidance_scale: float


class Look(NamedTuple):
    """What all images have in common."""

    num_inference_steps: int
    negative_prompt: str
    height: int | None
    width: int | None

    def told(self) -> dict[str, Any]:
        """What was asked for, by name."""
        return {name: value for name, value in self._asdict().items() if value}


@click.command(epilog=EPILOG)
@click.argument("prompts", nargs=-1)
@click.option(
    "--prompts",
    "prompt_file",
    type=FILE,
    metavar="FILE",
    help="Prompt table: one prompt a line, CSV, TSV, JSON or JSON lines, with seeds and guidance scales.",
)
@click.option("--prompt-column", metavar="NAME", help="Column of the table that holds the prompts.")
@click.option("--num-images", default=1, show_default=True, type=COUNTS, help="Images of each prompt.")
@click.option(
    "--model",
    metavar="NAME",
    help="emoji, a diffusers folder or file, or a hub id.  [default: the erasure's base]",
)
@ERASURES
@FORCE
@click.option(
    "--num-inference-steps",
    default=25,
    show_default=True,
    type=click.IntRange(1, 1000),
    help="Sampling steps of each image.",
)
@click.option(
    "--guidance-scale",
    type=FiniteRange(0, 1000),
    help="Classifier-free guidance.  [default: 1.6 for the built-in model, 7.5 for others]",
)
@click.option("--negative-prompt", default="", metavar="TEXT", help="What guidance steers away from.")
@click.option("--height", type=COUNTS, help="Height in pixels; the model's own, if absent.")
@click.option("--width", type=COUNTS, help="Width in pixels; the model's own, if absent.")
@SEED
@out_option("New folder for one file per image, or a .png file for all images side by side.")
@click.option(
    "--sheet", type=FILE, metavar="FILE", help="A .png file with all images of the folder side by side."
)
@model_options
@QUIET
@JSON
def generate(
    *,
    prompts: tuple[str, ...],
    prompt_file: Path | None,
    prompt_column: str | None,
    num_images: int,
    model: str | None,
    erasures: tuple[Path, ...],
    force: bool,
    num_inference_steps: int,
    guidance_scale: float | None,
    negative_prompt: str,
    height: int | None,
    width: int | None,
    seed: int,
    out: Path,
    sheet: Path | None,
    loading: LoadOptions,
    quiet: bool,
    as_json: bool,
) -> None:
    """Generate images of PROMPTS.

    The first image has the seed that --seed gives, each other image the next one. The seeds of a prompt table
    count from there too: a row with seed 5 gets --seed plus 5.
    """
    is_sheet = _check_out(out, sheet)
    rows = _rows(prompts, prompt_file, prompt_column, num_images)
    look = Look(num_inference_steps, negative_prompt, height, width)

    from ..models.sizes import with_size  # noqa: PLC0415  (torch takes seconds to import)
    from ..testbeds.loading import load_erased  # noqa: PLC0415  (torch takes seconds to import)
    from ..testbeds.scenes import find_testbed  # noqa: PLC0415

    if (is_sheet or sheet) and len(rows) * num_images > MAX_IN_SHEET:
        raise InputError(f"A .png file holds at most {MAX_IN_SHEET:,} images; name a folder with --out.")
    loaded = with_size(load_erased(model, erasures, force=force, options=loading), height, width)
    loaded.set_progress_bar_config(disable=quiet or as_json)
    scale = find_testbed(loaded).guidance_scale if guidance_scale is None else guidance_scale
    wanted = list(_wanted(rows, num_images, seed, scale))
    if is_sheet:
        _save_sheet(_draw(loaded, wanted, look), wanted, num_images, out)
    else:
        _draw_files(loaded, wanted, look, out)
    if sheet is not None:
        _save_sheet(_read(out, wanted), wanted, num_images, sheet)
    if as_json:
        images = [{**one._asdict(), "file": str(out if is_sheet else out / one.file)} for one in wanted]
        click.echo(json.dumps({"out": str(out), **look.told(), "images": images}))
    elif not quiet:
        click.echo(f"{out}" if is_sheet else f"{len(wanted)} images and {LIST} in {out}")


def _check_out(out: Path, sheet: Path | None) -> bool:
    """Whether the images go on one sheet instead of files.

    Raises:
        InputError: nothing can be written there.
    """
    from .._util.files import check_new_file  # noqa: PLC0415
    from .._util.folders import check_resumable_folder  # noqa: PLC0415

    if sheet is not None:
        if sheet.suffix.lower() != ".png" or out.suffix.lower() == ".png":
            raise InputError("--sheet names a .png file, and --out the folder of the images.")
        check_new_file(sheet)
    suffix = out.suffix.lower()
    if suffix == ".png":
        check_new_file(out)
        return True
    if suffix in {".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}:
        raise InputError(f"{shown(out)} must be a .png file, or a folder.")
    check_resumable_folder(out)
    return False


def _rows(prompts: tuple[str, ...], file: Path | None, column: str | None, num_images: int) -> list[Prompt]:
    """The prompts as given, each with seeds of its own, or the prompt table.

    Raises:
        InputError: both are given, or none, or the table cannot be read.
    """
    if bool(prompts) == (file is not None):
        raise InputError("Give prompts as arguments or a table with --prompts, one of both.")
    if column and file is None:
        raise InputError("--prompt-column needs --prompts.")

    from ..attacks import Prompt  # noqa: PLC0415  (torch takes seconds to import)
    from ..attacks.prompt_files import read_prompts  # noqa: PLC0415

    if file is not None:
        return read_prompts(file, prompt_column=column)
    return [Prompt(text, i * num_images) for i, text in enumerate(prompts)]


def _wanted(rows: list[Prompt], num_images: int, seed: int, guidance_scale: float) -> Iterator[Wanted]:
    """Every image with its name, seed and guidance; a prompt's images take seeds one after the other."""
    for i, row in enumerate(rows):
        for j in range(num_images):
            slug = re.sub(r"[^a-z0-9]+", "-", row.text.lower()).strip("-")[:MAX_SLUG].strip("-")
            name = f"{i * num_images + j:05d}{'-' if slug else ''}{slug}.png"
            scale = guidance_scale if row.guidance_scale is None else row.guidance_scale
            yield Wanted(name, row.text, (seed + row.seed + j) % 2**64, scale)


def _save_sheet(images: Tensor, wanted: list[Wanted], num_images: int, out: Path) -> None:
    """All images side by side, one row for each prompt; the prompts of a single row stand side by side."""
    from .._util.files import new_file  # noqa: PLC0415
    from .._util.images import sheet  # noqa: PLC0415

    rows, labels = [images], []
    if num_images > 1:
        rows = list(images.split(num_images))
        labels = [one.prompt[:200] for one in wanted[::num_images]]
    with new_file(out) as partial:
        sheet(rows, labels=labels).save(partial, "PNG")


def _read(folder: Path, wanted: list[Wanted]) -> Tensor:
    """Images of files in -1..1: ``(images, 3, height, width)``."""
    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415  (takes seconds to import)
    from PIL import Image  # noqa: PLC0415

    from .._util.images import from_bytes  # noqa: PLC0415

    arrays = [np.array(Image.open(folder / one.file).convert("RGB")) for one in wanted]
    # channels first
    return from_bytes(torch.from_numpy(np.stack(arrays)).movedim(-1, 1))


def _draw_files(model: DiffusionModel, wanted: list[Wanted], look: Look, out: Path) -> None:
    """One file for each image; those that are there already and whole are not drawn again."""
    from .._util.files import atomic_file, write_json  # noqa: PLC0415
    from .._util.folders import resumable_folder  # noqa: PLC0415
    from .._util.images import is_image, to_image  # noqa: PLC0415
    from ..evaluation.requests import fingerprint  # noqa: PLC0415

    images = [one._asdict() for one in wanted]
    request = {
        "model": fingerprint(model)._asdict(),
        "device": model.device.type,
        **look.told(),
        "images": images,
    }
    with goes_on_in(out), resumable_folder(out, request):
        for at in range(0, len(wanted), model.batch_size):
            part = wanted[at : at + model.batch_size]
            if all(is_image(out / one.file) for one in part):
                continue
            # a batch is drawn whole: in a smaller one, images differ by rounding
            for one, image in zip(part, _draw(model, part, look), strict=True):
                with atomic_file(out / one.file) as partial:
                    to_image(image).save(partial, "PNG")
        write_json(out / LIST, {"source": model.label, **look.told(), "images": images})


def _draw(model: DiffusionModel, wanted: list[Wanted], look: Look) -> Tensor:
    import torch  # noqa: PLC0415  (takes seconds to import)

    scales = [one.guidance_scale for one in wanted]
    same = len(set(scales)) == 1
    return model.generate(
        [one.prompt for one in wanted],
        [one.seed for one in wanted],
        num_inference_steps=look.num_inference_steps,
        negative_prompt=look.negative_prompt,
        guidance_scale=scales[0] if same else torch.tensor(scales),
    )
