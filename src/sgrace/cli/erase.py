"""``sgrace erase``."""

from __future__ import annotations

import json
import tempfile
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .._util import registry
from .._util.errors import InputError, unknown
from .._util.text import shown
from .loading import model_options
from .options import (
    ERASURES,
    FILE,
    FORCE,
    JSON,
    KIND,
    QUIET,
    SEED,
    examples,
    out_option,
    set_option,
)
from .program import Interrupted
from .types import ConceptName, PluginName, PresetName
from .words import found_words, words_of_files

if TYPE_CHECKING:
    from ..erasure import Erasure
    from ..evaluation.before_after import BeforeAfter
    from ..models import DiffusionModel
    from ..testbeds.loading import LoadOptions

IMAGES = "before_after.png"
SCORES = "scores.json"
ROOM_FOR_THE_REST = 2**22  # bytes: tokenizer, recipe and images, of which only the images grow with the model
UNKNOWN_KIND = "Images are blurred because the kind of concept is unknown; --kind or --no-blur shows them."

EPILOG = examples(
    "sgrace erase weapon -o safe",
    "sgrace erase church --method esd --preset emoji --set iterations=200 -o safe",
    "sgrace erase church --model CompVis/stable-diffusion-v1-4 --words words.txt --dtype bfloat16 -o safe",
    "sgrace erase church --model stabilityai/stable-diffusion-3.5-medium --encoders all -o safe",
    "sgrace erase dagger --erasure safe -o safer",
)


@click.command(epilog=EPILOG)
@click.argument("concepts", nargs=-1, required=True, type=ConceptName())
@click.option(
    "--model",
    metavar="NAME",
    help="emoji, a diffusers folder or file, or a hub id, for which sd15 is short.  [default: emoji]",
)
@click.option(
    "--method", default="sgrace", show_default=True, type=PluginName("erasers"), help="Name of an eraser."
)
@click.option(
    "--preset", type=PresetName(), help="Named settings of the method; the default is the method's own."
)
@set_option("method")
@click.option(
    "--encoders",
    metavar="NAMES",
    help="Text encoders to train: clip for every CLIP encoder (the default), all, or names joined by commas.",
)
@click.option(
    "--words",
    "word_files",
    multiple=True,
    type=FILE,
    metavar="FILE",
    help="Word file in YAML, or related words, a blank line, words to retain. Repeat it for each concept.",
)
@KIND
@ERASURES
@FORCE
@SEED
@out_option("New folder for the erasure, its recipe, images before and after, and scores.")
@click.option(
    "--no-blur", is_flag=True, help="Do not blur images of concepts that are harmful or of unknown kind."
)
@model_options
@QUIET
@JSON
def erase(
    *,
    concepts: tuple[str, ...],
    model: str | None,
    method: str,
    preset: str | None,
    pairs: tuple[str, ...],
    encoders: str | None,
    word_files: tuple[Path, ...],
    kind: Any,  # noqa: ANN401  (one of the choices)
    erasures: tuple[Path, ...],
    force: bool,
    seed: int,
    out: Path,
    no_blur: bool,
    loading: LoadOptions,
    quiet: bool,
    as_json: bool,
) -> None:
    """Erase CONCEPTS together from a model and report whether they are gone."""
    from .._util.folders import check_new_folder, check_room  # noqa: PLC0415
    from .._util.settings import parse_pairs  # noqa: PLC0415
    from ..concept import parse_concepts  # noqa: PLC0415

    check_new_folder(out)  # cheap checks first
    parsed = parse_concepts(concepts)
    settings = {**parse_pairs(pairs), **({"encoders": encoders} if encoders else {})}
    _check_preset(method, preset)
    if not (quiet or as_json):
        # torch, transformers and diffusers take seconds to import: say first that the command is at work
        names = ", ".join(concept.name for concept in parsed)
        click.echo(f"Erasing {names} with {method}.", err=True)

    from .. import api  # noqa: PLC0415  (torch takes seconds to import)
    from ..testbeds.loading import load_erased  # noqa: PLC0415

    eraser = registry.load("erasers", method).preset(preset, kind or "object", settings)
    words = words_of_files(word_files, parsed)
    loaded = load_erased(model, erasures, force=force, options=loading)
    loaded.set_progress_bar_config(disable=quiet or as_json)
    check_room(out, eraser.saved_bytes(loaded) + ROOM_FOR_THE_REST)
    words = words or found_words(loaded, parsed, kind, silent=quiet or as_json)
    erasure = api.erase(
        loaded, parsed, method=method, preset=preset, settings=settings, words=words, kind=kind, seed=seed
    )
    _save(erasure, out)
    outcome = _outcome(loaded, erasure, out, blur=not no_blur)
    if as_json:
        click.echo(json.dumps({"out": str(out), **outcome.facts(erasure)}))
    elif not quiet:
        click.echo("\n".join(outcome.lines(erasure, out)))


def _check_preset(method: str, preset: str | None) -> None:
    """Refuse a preset that the method lacks; those of methods in other packages are not known yet.

    Raises:
        InputError: there is no such preset.
    """
    known = registry.preset_names("erasers", method)
    if preset and known and preset not in known:
        raise unknown("preset", preset, known)


def _save(erasure: Erasure, out: Path) -> None:
    """Write the erasure; where that fails, into another folder, because training may have taken hours.

    Raises:
        InputError: it is not in ``out``; the error says where it is kept.
    """
    try:
        erasure.save_pretrained(out)
    except (InputError, OSError) as error:
        failure = str(error) if isinstance(error, InputError) else f"Cannot write {shown(out)}: {error}."
        kept = _save_elsewhere(erasure)
        where = "no other place could take it either" if kept is None else f"the erasure is kept in {kept}"
        raise InputError(f"{failure} After training, {where}.") from error


def _save_elsewhere(erasure: Erasure) -> Path | None:
    """The new folder that took the erasure; float32 holds also what the base's precision cannot."""
    import torch  # noqa: PLC0415  (takes seconds to import)

    name = f"sgrace-erasure-{uuid.uuid4().hex[:8]}"
    for place in (tempfile.gettempdir(), Path.home(), Path.cwd()):
        for dtype in (None, torch.float32):
            with suppress(InputError, OSError):
                erasure.save_pretrained(Path(place) / name, dtype=dtype)
                return Path(place) / name
    return None


@dataclass(frozen=True)
class Outcome:
    """What came of an erasure.

    Attributes:
        found: verdict and shares by concept; empty where they could not be made.
        failure: why they could not.
        unknown_kind: whether images are blurred for this reason.
    """

    found: Mapping[str, BeforeAfter]
    failure: str = ""
    unknown_kind: bool = False

    @property
    def scores(self) -> dict[str, Any]:
        """Shares by concept and question, before and after."""
        return {
            name: {row.question: row.model_dump(include={"before", "after"}) for row in one.rows}
            for name, one in self.found.items()
            if one.rows
        }

    def facts(self, erasure: Erasure) -> dict[str, Any]:
        """As JSON."""
        from ..evaluation.verdict import not_measured, worst_of  # noqa: PLC0415  (torch takes seconds to import)

        verdicts = {name: one.verdict for name, one in self.found.items()}
        worst = worst_of(list(verdicts.values())) if verdicts else not_measured(self.failure)
        return {
            "verdict": worst.word,
            "verdicts": {name: one.model_dump() for name, one in verdicts.items()},
            "scores": self.scores,
            "failure": self.failure or None,
            **erasure.recipe.model_dump(mode="json", include={"method", "preset", "seconds", "cost"}),
        }

    def lines(self, erasure: Erasure, out: Path) -> list[str]:
        """As text, the verdict first."""
        lines = [f"{name}: {one.verdict.sentence}" for name, one in self.found.items()]
        if self.failure:
            lines.append(f"Not measured: {self.failure}")
        for name, questions in self.scores.items():
            lines += ["", f"{name}: share of images that the judge names right, with 95 % intervals"]
            width = max(map(len, questions))
            for question, row in questions.items():
                before, after = _interval(row["before"]), _interval(row["after"])
                # the widest interval, of a share of 100 %, has 23 characters
                shares = f"before {before:23s}   after {after:23s}"
                lines.append(f"  {question:{width}s}   {shares}   n={row['after']['n']}")
        images = "" if self.failure else f"   Images: {out / IMAGES}"
        if self.unknown_kind:
            lines += ["", UNKNOWN_KIND]
        return [*lines, "", f"Took {erasure.recipe.seconds} s. Result: {out}{images}"]


def _outcome(before: DiffusionModel, erasure: Erasure, out: Path, *, blur: bool) -> Outcome:
    """Images and shares before and after; the erasure is saved, so that nothing is lost if they fail."""
    from .._util.files import write_json  # noqa: PLC0415

    try:
        outcome = _compare(before, erasure, out / IMAGES, blur=blur)
        write_json(out / SCORES, outcome.scores)
    except InputError as error:
        return Outcome({}, f"{error} The erasure itself is complete.")
    except KeyboardInterrupt as error:
        raise Interrupted(f"interrupted; the erasure is kept in {out}, without images and scores.") from error
    return outcome


def _compare(before: DiffusionModel, erasure: Erasure, file: Path, *, blur: bool) -> Outcome:
    """Images of both models by concept in one picture, with shares and a verdict where a judge is known.

    Images that may show the concept are blurred if it is harmful or if nobody has said its kind.
    """
    from .._util.files import atomic_file  # noqa: PLC0415
    from ..evaluation.before_after import before_after  # noqa: PLC0415
    from ..report.before_after import before_after_picture  # noqa: PLC0415
    from ..testbeds.scenes import find_testbed  # noqa: PLC0415

    after = erasure.apply(before)
    found: dict[str, BeforeAfter] = {}
    concepts = [target.concept for target in erasure.recipe.targets]
    for concept, words in [(target.concept, target.words) for target in erasure.recipe.targets]:
        testbed = find_testbed(before, words=words, kind=concept.kind)
        found[concept.name] = before_after(before, after, concept, testbed)
    hidden = {concept.name for concept in concepts if blur and concept.blurred}
    with atomic_file(file) as partial:
        before_after_picture(found, hidden).save(partial, "PNG")
    unknown = [blur and concept.kind is None for concept in concepts]
    return Outcome(found, unknown_kind=any(unknown))


def _interval(rate: dict[str, float]) -> str:
    return f"{rate['share']:6.1%} [{rate['low']:.1%}, {rate['high']:.1%}]"
