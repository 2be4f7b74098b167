"""Command line: ``sgrace erase | generate | list | env | emoji``."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import registry
from .errors import InputError

if TYPE_CHECKING:
    from .emoji import ClassSet
    from .models import StableDiffusion

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, and no progress bars.")


def _user_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Bad input: one sentence on standard error, exit code 2."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401  (passed through)
        try:
            command(*args, **kwargs)
        except InputError as error:
            click.echo(f"sgrace: {error}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            click.echo("sgrace: interrupted; nothing was written.", err=True)
            sys.exit(130)

    return wrapped


@click.group()
@click.version_option(package_name="sgrace")
def main() -> None:
    """Erase a concept from a text-to-image model so that it stays erased under attack."""
    for name, value in {"HF_HUB_DISABLE_TELEMETRY": "1", "TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error"}.items():
        os.environ.setdefault(name, value)


def _load(name: str, *, quiet: bool) -> StableDiffusion:
    from diffusers.utils import logging as diffusers_logging  # noqa: PLC0415  (torch takes seconds to import)
    from transformers.utils import logging as transformers_logging  # noqa: PLC0415

    from .api import load_model  # noqa: PLC0415

    for logging in (diffusers_logging, transformers_logging):
        logging.disable_progress_bar()
    model = load_model(name)
    model.set_progress_bar_config(disable=quiet)
    return model


def _settings(pairs: tuple[str, ...]) -> dict[str, str]:
    if bad := [pair for pair in pairs if "=" not in pair]:
        raise InputError(f"--set takes key=value, not {bad[0]!r}.")
    return dict(pair.split("=", 1) for pair in pairs)


@main.command()
@click.argument("concepts", nargs=-1, required=True)
@click.option("--model", default="emoji", show_default=True, help="`emoji`, a diffusers folder, or a hub id.")
@click.option("--method", default="sgrace", show_default=True)
@click.option("--preset", default="surrogate", show_default=True)
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="One setting of the method; may be repeated.")
@click.option("--knowledge", "files", multiple=True, type=click.Path(path_type=Path), help="Word file, one per concept.")
@click.option("--kind", type=click.Choice(["object", "style", "harmful"]), help="Kind of the concepts, for a model other than `emoji`.")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New folder for the result.")
@JSON
@_user_errors
def erase(
    concepts: tuple[str, ...],
    model: str,
    method: str,
    preset: str,
    pairs: tuple[str, ...],
    files: tuple[Path, ...],
    kind: Any,  # noqa: ANN401  (one of the choices)
    seed: int,
    out: Path,
    *,
    as_json: bool,
) -> None:
    """Erase CONCEPTS from a model and write the safe text encoder, the recipe and a before/after picture."""
    from .concept import Concept  # noqa: PLC0415
    from .files import check_new_folder, new_folder  # noqa: PLC0415

    check_new_folder(out)
    registry.load("erasers", method)  # cheap checks first
    names = [Concept.parse(name).name for name in concepts]
    settings = _settings(pairs)

    from . import api  # noqa: PLC0415
    from .erasers import SGraceConfig  # noqa: PLC0415
    from .knowledge import Knowledge  # noqa: PLC0415

    SGraceConfig.preset(preset, kind or "object", settings)  # a wrong name or value is told before a model is loaded

    knowledge = [Knowledge.from_file(path) for path in files] if files else None
    loaded = _load(model, quiet=as_json)
    erasure = api.erase(loaded, names, method=method, preset=preset, settings=settings, knowledge=knowledge, kind=kind, seed=seed)
    with new_folder(out) as partial:
        erasure.save_pretrained(partial / "erasure")
        for item in (partial / "erasure").iterdir():
            item.rename(partial / item.name)
        (partial / "erasure").rmdir()
        scores = _before_after(loaded, erasure.apply(loaded), names, partial)
        (partial / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
    if as_json:
        click.echo(json.dumps({"out": str(out), "scores": scores, "seconds": erasure.recipe["seconds"], "cost": erasure.recipe["cost"]}))
        return
    for name, questions in scores.items():
        click.echo(f"\n{name}: share of pictures that the judge names right, with 95 % intervals")
        for question, row in questions.items():
            before, after = (f"{row[k]['share']:6.1%} [{row[k]['low']:.1%}, {row[k]['high']:.1%}]" for k in ("before", "after"))
            click.echo(f"  {question:11s} before {before}   after {after}   n={row['after']['n']}")
    click.echo(f"\nErased in {erasure.recipe['seconds']} s. Text encoder: {out}/text_encoder   Pictures: {out}/before_after.png")


def _before_after(before: StableDiffusion, after: StableDiffusion, names: list[str], folder: Path) -> dict[str, Any]:
    """Pictures of both models; on the built-in model also the judge's shares."""
    from . import api, emoji  # noqa: PLC0415
    from .emoji.measure import measure, probes, sheet  # noqa: PLC0415

    if not api.is_built_in(before):
        prompts, seeds = [f"a picture of {name}" for name in names], list(range(len(names)))
        sheet([m.generate(prompts, seeds) for m in (before, after)]).save(folder / "before_after.png")
        return {}
    judge, scores, rows = emoji.Judge.from_pretrained(emoji.path()), {}, []
    for name in names:
        concept: ClassSet = emoji.resolve(name)
        asked = probes(concept, n=48, seed=0)
        shares, pictures = zip(*(measure(m, judge, asked) for m in (before, after)), strict=True)
        scores[name] = {q: {"before": shares[0][q].as_dict(), "after": shares[1][q].as_dict()} for q in asked}
        rows += [pictures[i][q][:12] for q in ("target", "neighbours", "unrelated") for i in (0, 1)]
    sheet(rows).save(folder / "before_after.png")
    return scores


@main.command()
@click.argument("prompts", nargs=-1, required=True)
@click.option("--model", default="emoji", show_default=True)
@click.option("--erasure", type=click.Path(path_type=Path), help="Folder of an erasure, applied to the model.")
@click.option("--steps", default=25, show_default=True, type=click.IntRange(1, 1000))
@click.option("--guidance-scale", default=5.0, show_default=True, type=click.FloatRange(1, 50))
@click.option("--seed", default=0, show_default=True)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="PNG file; the prompts' pictures stand side by side.")
@_user_errors
def generate(prompts: tuple[str, ...], model: str, erasure: Path | None, steps: int, guidance_scale: float, seed: int, out: Path) -> None:
    """Draw PROMPTS."""
    if out.exists() or out.suffix.lower() != ".png":
        raise InputError(f"{out} must be a .png file that does not exist yet.")
    from .emoji.measure import sheet  # noqa: PLC0415
    from .erasers import Erasure  # noqa: PLC0415

    loaded = _load(model, quiet=False)
    if erasure is not None:
        loaded = Erasure.from_pretrained(erasure).apply(loaded)
    pictures = loaded.generate(
        list(prompts), [seed + i for i in range(len(prompts))], num_inference_steps=steps, guidance_scale=guidance_scale
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet([pictures]).save(out)
    click.echo(str(out))


@main.command(name="list")
@JSON
@_user_errors
def list_(*, as_json: bool) -> None:
    """Show the erasers, models, and concepts that the built-in model's judge can count."""
    from . import emoji  # noqa: PLC0415
    from .erasers.sgrace_config import PRESETS  # noqa: PLC0415

    found = {"erasers": registry.names("erasers"), "models": registry.names("models"), "presets of sgrace": list(PRESETS)}
    everything = {**found, "concepts of emoji": emoji.known_concepts()}
    if as_json:
        click.echo(json.dumps(everything, indent=2))
        return
    for family, members in everything.items():
        click.echo(f"{family}: {', '.join(members)}")


@main.command()
@JSON
@_user_errors
def env(*, as_json: bool) -> None:
    """Versions and machine, for bug reports."""
    import platform  # noqa: PLC0415

    import torch  # noqa: PLC0415

    from .erasers.base import versions  # noqa: PLC0415

    facts = {**versions(), "platform": platform.platform(), "threads": torch.get_num_threads(), "cuda": torch.cuda.is_available()}
    click.echo(json.dumps(facts, indent=2) if as_json else "\n".join(f"{k}: {v}" for k, v in facts.items()))


@main.group()
def emoji() -> None:
    """Train, export and validate the built-in model."""


@emoji.command()
@click.option("--work", required=True, type=click.Path(path_type=Path), help="Folder of art, checkpoints and finished stages.")
@click.option("--stage", "stages", multiple=True, help="Run only these stages (all, if none is named).")
@click.option("--preset", default="cpu", show_default=True)
@click.option("--steps", type=click.IntRange(1), help="Training steps of every network stage that runs, in place of the preset's.")
@click.option(
    "--start-from",
    type=click.Path(path_type=Path, exists=True),
    help="Pipeline folder whose parts count as finished stages; the ones that --stage names go on from its weights.",
)
@click.option("--seed", default=0, show_default=True)
@_user_errors
def train(work: Path, stages: tuple[str, ...], preset: str, steps: int | None, start_from: Path | None, seed: int) -> None:
    """Train the built-in model's parts; the same command again goes on where it was."""
    from .emoji.recipe import PRESETS, STAGES, Recipe  # noqa: PLC0415
    from .errors import unknown  # noqa: PLC0415

    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    if bad := [stage for stage in stages if stage not in STAGES]:
        raise unknown("stage", bad[0], STAGES)
    recipe = Recipe(work, preset, seed, steps)
    if start_from is not None:
        recipe.adopt(start_from, retrain=stages)
    recipe.run(stages or STAGES)


@emoji.command()
@click.option("--work", required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--out", required=True, type=click.Path(path_type=Path))
@_user_errors
def export(work: Path, out: Path) -> None:
    """Write the finished stages as a diffusers pipeline folder in fp16."""
    from .emoji.recipe import Recipe  # noqa: PLC0415

    Recipe(work, "cpu", 0).export(out)


@emoji.command()
@click.option("--work", required=True, type=click.Path(path_type=Path), help="Folder of the art (fetched if missing).")
@click.option("--sheet", type=click.Path(path_type=Path), help="PNG file for 64 random pictures beside the real drawings.")
@JSON
@_user_errors
def validate(work: Path, sheet: Path | None, *, as_json: bool) -> None:
    """Measure the built-in model and its judge. Trains a second judge in WORK, to be tested on drawings it never saw."""
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise InputError(f"{sheet} must be a .png file.")
    from . import emoji as built_in  # noqa: PLC0415
    from .emoji import validate as v  # noqa: PLC0415
    from .emoji.clip import Clip  # noqa: PLC0415
    from .emoji.recipe import Recipe  # noqa: PLC0415

    model = _load("emoji", quiet=as_json)
    judge, recipe = built_in.Judge.from_pretrained(built_in.path()), Recipe(work, "cpu", 0)
    recipe.adopt(built_in.path())
    figures = v.validate_judge(judge, model, recipe.data)
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
