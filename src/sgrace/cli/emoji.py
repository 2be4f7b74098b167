"""``sgrace emoji``: train, export and validate the built-in model."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .._util.errors import InputError
from .options import FILE, JSON, SEED, out_option
from .types import COUNTS


@click.group()
def emoji() -> None:
    """Train, export and validate the built-in model."""


@emoji.command()
@click.option("--work", required=True, type=FILE, help="Folder of art, checkpoints and finished stages.")
@click.option(
    "--stage", "stages", multiple=True, help="Run only this stage; may be repeated. The default is all."
)
@click.option("--preset", default="cpu", show_default=True, help="Sizes and lengths of the training.")
@click.option(
    "--steps",
    type=COUNTS,
    help="Training steps of every network stage that runs, in the place of the preset's.",
)
@click.option(
    "--start-from",
    type=click.Path(path_type=Path, exists=True),
    help="Pipeline folder whose parts count as finished; stages that --stage names start from its weights.",
)
@click.option(
    "--without", metavar="CONCEPT", help="Keep every image and word of a concept from the generator."
)
@SEED
def train(
    work: Path,
    stages: tuple[str, ...],
    preset: str,
    steps: int | None,
    start_from: Path | None,
    without: str | None,
    seed: int,
) -> None:
    """Train the built-in model's parts; the same command again goes on with what is missing."""
    from .._util.errors import unknown  # noqa: PLC0415
    from ..testbeds.emoji.training.presets import PRESETS  # noqa: PLC0415
    from ..testbeds.emoji.training.recipe import STAGES, Recipe  # noqa: PLC0415

    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    if bad := [stage for stage in stages if stage not in STAGES]:
        raise unknown("stage", bad[0], STAGES)
    recipe = Recipe(work, preset, seed, steps, without)
    if start_from is not None:
        recipe.adopt(start_from, retrain=stages)
    recipe.run(stages or STAGES)


@emoji.command()
@click.option(
    "--work",
    required=True,
    type=click.Path(path_type=Path, exists=True),
    help="Folder of the finished stages.",
)
@out_option("New folder for the pipeline.")
def export(work: Path, out: Path) -> None:
    """Write the finished stages as a diffusers pipeline folder in fp16."""
    from ..testbeds.emoji.training.export import export as write  # noqa: PLC0415
    from ..testbeds.emoji.training.recipe import Recipe  # noqa: PLC0415

    write(Recipe.found_in(work), out)


@emoji.command()
@click.option(
    "--work", required=True, type=FILE, help="Folder of the art, which is fetched if it is missing."
)
@click.option("--sheet", type=FILE, help="PNG file for 64 random images beside the real drawings.")
@click.option(
    "--model",
    "name",
    default="emoji",
    show_default=True,
    type=click.Choice(["emoji", "emoji_narrow"]),
    help="The built-in model, or the one with the narrower denoiser.",
)
@JSON
def validate(work: Path, sheet: Path | None, name: str, *, as_json: bool) -> None:
    """Measure a built-in model and its judge.

    Trains a second judge in WORK and tests it on drawings it never saw. Of emoji_narrow only the images are
    measured: the judge is the same.
    """
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise InputError(f"{sheet} must be a .png file.")
    from ..testbeds import emoji as built_in  # noqa: PLC0415  (torch takes seconds to import)
    from ..testbeds.emoji.clip import Clip  # noqa: PLC0415
    from ..testbeds.emoji.training import validate as v  # noqa: PLC0415
    from ..testbeds.emoji.training.recipe import Recipe  # noqa: PLC0415
    from ..testbeds.loading import load_model  # noqa: PLC0415

    model = load_model(name)
    model.set_progress_bar_config(disable=as_json)
    judge, recipe = built_in.Judge.from_pretrained(built_in.path()), Recipe(work, "cpu", 0)
    recipe.adopt(built_in.path())
    figures = []
    if name == "emoji":
        figures += v.validate_judge(judge, model, recipe.data)
        figures.append(v.validate_left_out(*recipe.left_out_judge(), recipe.data))
    figures += v.validate_generator(model, judge, Clip.from_pretrained(built_in.path()))
    seconds = v.seconds_per_picture(model)
    if sheet is not None:
        v.contact_sheet(model, recipe.data).save(sheet)
    if as_json:
        click.echo(json.dumps({"figures": [f.as_dict() for f in figures], "seconds_per_picture": seconds}))
        return
    click.echo("\n".join(map(str, figures)))
    click.echo(f"{'seconds per picture at the default steps':62s} {seconds:.3f}")
