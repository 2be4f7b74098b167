"""``sgrace erase`` and ``sgrace generate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .._util import registry
from .._util.errors import InputError
from .._util.files import check_new_file, new_file
from .._util.settings import parse_pairs
from .._util.text import shown
from .common import JSON, load, user_errors

if TYPE_CHECKING:
    from ..models import DiffusionModel
    from ..testbeds.emoji import ClassSet


@click.command()
@click.argument("concepts", nargs=-1, required=True)
@click.option("--model", default="emoji", show_default=True, help="`emoji`, a diffusers folder, or a hub id.")
@click.option("--method", default="sgrace", show_default=True)
@click.option("--preset", help="Named settings of the method; its default, if absent.")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="One setting of the method; may be repeated.")
@click.option("--knowledge", "files", multiple=True, type=click.Path(path_type=Path), help="Word file, one per concept.")
@click.option("--kind", type=click.Choice(["object", "style", "harmful"]), help="Kind of the concepts, for a model other than `emoji`.")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New folder for the result.")
@JSON
@user_errors
def erase(
    concepts: tuple[str, ...],
    model: str,
    method: str,
    preset: str | None,
    pairs: tuple[str, ...],
    files: tuple[Path, ...],
    kind: Any,  # noqa: ANN401  (one of the choices)
    seed: int,
    out: Path,
    *,
    as_json: bool,
) -> None:
    """Erase CONCEPTS from a model and write the safe text encoder, the recipe and a before/after picture."""
    from .._util.files import check_new_folder, new_folder  # noqa: PLC0415
    from ..concept import Concept  # noqa: PLC0415

    check_new_folder(out)
    eraser = registry.load("erasers", method)  # cheap checks first
    names = [Concept.parse(name).name for name in concepts]
    settings = parse_pairs(pairs)

    from .. import api  # noqa: PLC0415
    from ..knowledge import Knowledge  # noqa: PLC0415

    eraser.preset(preset, kind or "object", settings)  # a wrong name or value is told before a model is loaded

    knowledge = [Knowledge.from_file(path) for path in files] if files else None
    loaded = load(model, quiet=as_json)
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
    click.echo(f"\nErased in {erasure.recipe['seconds']} s. Result: {out}   Pictures: {out}/before_after.png")


def _before_after(before: DiffusionModel, after: DiffusionModel, names: list[str], folder: Path) -> dict[str, Any]:
    """Pictures of both models; on the built-in model also the judge's shares."""
    from .. import api  # noqa: PLC0415
    from ..testbeds import emoji  # noqa: PLC0415
    from ..testbeds.emoji.measure import measure, probes, sheet  # noqa: PLC0415

    if not api.is_built_in(before):
        prompts, seeds = [f"a picture of {name}" for name in names], list(range(len(names)))
        images = [m.generate(prompts, seeds) for m in (before, after)]
        sheet(images, labels=["before", "after"], headers=prompts).save(folder / "before_after.png")
        return {}
    judge, scores, rows = emoji.Judge.from_pretrained(emoji.path()), {}, []
    labels: list[str] = []
    for name in names:
        concept: ClassSet = emoji.resolve(name)
        asked = probes(concept, n=48, seed=0)
        shares, pictures = zip(*(measure(m, judge, asked) for m in (before, after)), strict=True)
        scores[name] = {q: {"before": shares[0][q].as_dict(), "after": shares[1][q].as_dict()} for q in asked}
        shown = {"target": name, "neighbours": f"near {name}", "unrelated": "unrelated"}
        rows += [pictures[i][q][:12] for q in shown for i in (0, 1)]
        labels += [f"{label}, {when}" for label in shown.values() for when in ("before", "after")]
    sheet(rows, labels=labels).save(folder / "before_after.png")
    return scores


@click.command()
@click.argument("prompts", nargs=-1, required=True)
@click.option("--model", default="emoji", show_default=True)
@click.option("--erasure", type=click.Path(path_type=Path), help="Folder of an erasure, applied to the model.")
@click.option("--steps", default=25, show_default=True, type=click.IntRange(1, 1000))
@click.option("--guidance-scale", type=click.FloatRange(1, 50), help="1.6 for the built-in model, 7.5 for others, if absent.")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="PNG file; the prompts' pictures stand side by side.")
@user_errors
def generate(
    prompts: tuple[str, ...], model: str, erasure: Path | None, steps: int, guidance_scale: float | None, seed: int, out: Path
) -> None:
    """Draw PROMPTS."""
    if out.suffix.lower() != ".png":
        raise InputError(f"{shown(out)} must be a .png file.")
    check_new_file(out)
    from .. import api  # noqa: PLC0415
    from ..erasure import Erasure  # noqa: PLC0415
    from ..models.families.stable_diffusion import GUIDANCE_SCALE as DEFAULT_GUIDANCE  # noqa: PLC0415
    from ..testbeds.emoji.measure import GUIDANCE_SCALE as BUILT_IN_GUIDANCE  # noqa: PLC0415
    from ..testbeds.emoji.measure import sheet  # noqa: PLC0415

    loaded = load(model, quiet=False)
    if erasure is not None:
        loaded = Erasure.from_pretrained(erasure).apply(loaded)
    if guidance_scale is None:
        guidance_scale = BUILT_IN_GUIDANCE if api.is_built_in(loaded) else DEFAULT_GUIDANCE
    seeds = [seed + i for i in range(len(prompts))]
    pictures = loaded.generate(list(prompts), seeds, num_inference_steps=steps, guidance_scale=guidance_scale)
    with new_file(out) as partial:
        sheet([pictures]).save(partial, "PNG")
    click.echo(str(out))
