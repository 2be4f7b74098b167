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
    from torch import Tensor

    from ..erasure import Erasure
    from ..evaluation.before_after import BeforeAfter
    from ..models import DiffusionModel

N_SHOWN = 12  # images of each question on the contact sheet


@click.command()
@click.argument("concepts", nargs=-1, required=True)
@click.option("--model", default="emoji", show_default=True, help="`emoji`, a diffusers folder, or a hub id.")
@click.option("--method", default="sgrace", show_default=True)
@click.option("--preset", help="Named settings of the method; its default, if absent.")
@click.option(
    "--set", "pairs", multiple=True, metavar="KEY=VALUE", help="One setting of the method; may be repeated."
)
@click.option(
    "--knowledge", "files", multiple=True, type=click.Path(path_type=Path), help="Word file, one per concept."
)
@click.option(
    "--kind",
    type=click.Choice(["object", "style", "harmful"]),
    help="Kind of the concepts, for a model other than `emoji`.",
)
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
    from ..evaluation.verdict import worst_of  # noqa: PLC0415
    from ..knowledge import Knowledge  # noqa: PLC0415

    eraser.preset(
        preset, kind or "object", settings
    )  # a wrong name or value is told before a model is loaded

    words = [Knowledge.from_file(path) for path in files] if files else None
    loaded = load(model, quiet=as_json)
    erasure = api.erase(
        loaded, names, method=method, preset=preset, settings=settings, words=words, kind=kind, seed=seed
    )
    with new_folder(out) as partial:
        erasure.save_pretrained(partial / "erasure")
        for item in (partial / "erasure").iterdir():
            item.rename(partial / item.name)
        (partial / "erasure").rmdir()
        found = _compare(loaded, erasure, partial / "before_after.png")
        scores = {name: _scores(one) for name, one in found.items() if one.rows}
        (partial / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
    verdict = worst_of([one.verdict for one in found.values()])
    recipe = erasure.recipe.model_dump(mode="json", include={"seconds", "cost"})
    if as_json:
        verdicts = {name: one.verdict.model_dump() for name, one in found.items()}
        facts = {"out": str(out), "verdict": verdict.word, "verdicts": verdicts, "scores": scores, **recipe}
        click.echo(json.dumps(facts))
        return
    for name, one in found.items():
        click.echo(f"{name}: {one.verdict.sentence}")
    for name, questions in scores.items():
        click.echo(f"\n{name}: share of images that the judge names right, with 95 % intervals")
        for question, row in questions.items():
            before = _interval(row["before"])
            click.echo(
                f"  {question:11s} before {before}   after {_interval(row['after'])}   n={row['after']['n']}"
            )
    click.echo(f"\nTook {recipe['seconds']} s. Result: {out}   Images: {out}/before_after.png")


def _interval(rate: dict[str, float]) -> str:
    return f"{rate['share']:6.1%} [{rate['low']:.1%}, {rate['high']:.1%}]"


def _scores(found: BeforeAfter) -> dict[str, Any]:
    """Shares by question, before and after."""
    return {row.question: row.model_dump(include={"before", "after"}) for row in found.rows}


def _compare(before: DiffusionModel, erasure: Erasure, file: Path) -> dict[str, BeforeAfter]:
    """Images of both models by concept, also as a contact sheet; with shares and a verdict where a judge is known."""
    from .._util.images import sheet  # noqa: PLC0415
    from ..evaluation.before_after import before_after  # noqa: PLC0415  (torch takes seconds to import)
    from ..testbeds.scenes import find_testbed  # noqa: PLC0415

    after = erasure.apply(before)
    found: dict[str, BeforeAfter] = {}
    rows: list[Tensor] = []
    labels: list[str] = []
    for target in erasure.recipe.targets:
        concept = target.concept
        testbed = find_testbed(before, words=target.words, kind=concept.kind)
        one = before_after(before, after, concept, testbed)
        found[concept.name] = one
        shown = {"target": concept.name, "neighbours": f"near {concept.name}", "unrelated": "unrelated"}
        for question in [question for question in shown if question in one.before]:
            rows += [one.before[question][:N_SHOWN], one.after[question][:N_SHOWN]]
            labels += [f"{shown[question]}, before", f"{shown[question]}, after"]
    sheet(rows, labels=labels).save(file)
    return found


@click.command()
@click.argument("prompts", nargs=-1, required=True)
@click.option("--model", default="emoji", show_default=True)
@click.option(
    "--erasure", type=click.Path(path_type=Path), help="Folder of an erasure, applied to the model."
)
@click.option("--steps", default=25, show_default=True, type=click.IntRange(1, 1000))
@click.option(
    "--guidance-scale",
    type=click.FloatRange(1, 50),
    help="1.6 for the built-in model, 7.5 for others, if absent.",
)
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="PNG file; the prompts' pictures stand side by side.",
)
@user_errors
def generate(
    prompts: tuple[str, ...],
    model: str,
    erasure: Path | None,
    steps: int,
    guidance_scale: float | None,
    seed: int,
    out: Path,
) -> None:
    """Draw PROMPTS."""
    if out.suffix.lower() != ".png":
        raise InputError(f"{shown(out)} must be a .png file.")
    check_new_file(out)
    from .._util.images import sheet  # noqa: PLC0415
    from ..erasure import Erasure  # noqa: PLC0415
    from ..testbeds.scenes import find_testbed  # noqa: PLC0415

    loaded = load(model, quiet=False)
    if erasure is not None:
        loaded = Erasure.from_pretrained(erasure).apply(loaded)
    if guidance_scale is None:
        guidance_scale = find_testbed(loaded).guidance_scale
    seeds = [seed + i for i in range(len(prompts))]
    pictures = loaded.generate(list(prompts), seeds, num_inference_steps=steps, guidance_scale=guidance_scale)
    with new_file(out) as partial:
        sheet([pictures]).save(partial, "PNG")
    click.echo(str(out))
