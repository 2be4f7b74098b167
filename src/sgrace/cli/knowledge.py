"""``sgrace knowledge``."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from .._util import registry
from .._util.errors import InputError
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
EPILOG = examples(
    'sgrace knowledge "van gogh" --model CompVis/stable-diffusion-v1-4 -o van_gogh.yaml',
    "sgrace knowledge crane --broader bird -o crane.yaml",
    "sgrace knowledge church --words words.txt -o church.yaml",
)


@click.command(epilog=EPILOG)
@click.argument("concept", type=ConceptName())
@click.option(
    "--model",
    default="emoji",
    show_default=True,
    metavar="NAME",
    help="Model whose text encoder orders the words: emoji, a diffusers folder or file, or a hub id.",
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
@KIND
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="New file for the words: YAML if its name ends in .yaml, else two lists.",
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
    kind: Any,  # noqa: ANN401  (one of the choices)
    out: Path | None,
    loading: LoadOptions,
    quiet: bool,
    as_json: bool,
) -> None:
    """Find the words of CONCEPT: what is erased with it, what is protected, and what may take its place."""
    from .._util.files import check_new_file  # noqa: PLC0415
    from ..concept import Concept  # noqa: PLC0415  (imports pydantic)

    parsed = Concept.parse(concept, kind)
    if out is not None:
        check_new_file(out)
    if file is not None and source not in {None, "file"}:
        raise InputError(f"--words is a file, and --source {source} reads none; leave one of them out.")
    from ..knowledge import write_words  # noqa: PLC0415
    from ..testbeds.loading import load_model  # noqa: PLC0415  (torch takes seconds to import)
    from ..testbeds.word_sources import words_of  # noqa: PLC0415

    loaded = load_model(model, **loading)
    chosen: Source = source or ("file" if file else "offline")
    found = words_of(loaded, parsed, chosen, file=file, broader=broader)
    if out is not None:
        write_words(out, found.words)
    replacement = _replacement(loaded, parsed.name, found.words)
    if as_json:
        click.echo(json.dumps(_facts(found, replacement, out), indent=2))
    elif not quiet:
        click.echo("\n".join(_lines(found, replacement, out)))


class Replacement(NamedTuple):
    """What would take the concept's place, and why."""

    word: str
    reason: str


def _replacement(model: DiffusionModel, name: str, words: ConceptWords) -> Replacement | None:
    """The nearest candidate that is not too similar, as S-GRACE chooses it; None if there is none."""
    from ..testbeds.word_sources import text_nearness  # noqa: PLC0415  (torch takes seconds to import)

    ceiling = registry.load("erasers", "sgrace").preset(None, "object", None).config.replacement_ceiling
    candidates = words.candidates
    cosines = dict(zip(candidates, text_nearness(model)(name, candidates), strict=True))
    below = [word for word in candidates if cosines[word] <= ceiling]
    if not below:
        return None
    word = max(below, key=lambda one: cosines[one])
    known = next((one.reason for one in words.replacements if one.word == word), "")
    near = (
        f"the nearest candidate in the text encoder with a cosine of at most {ceiling:g}: {cosines[word]:.2f}"
    )
    return Replacement(word, "; ".join(filter(None, (known, near))))


def _facts(found: Found, replacement: Replacement | None, out: Path | None) -> dict[str, Any]:
    return {
        "words": found.words.model_dump(mode="json", exclude_none=True),
        "dropped": [one._asdict() for one in found.dropped],
        "note": found.note,
        "replacement": replacement and replacement._asdict(),
        "out": out and str(out),
    }


def _lines(found: Found, replacement: Replacement | None, out: Path | None) -> list[str]:
    lines = [f"{found.words.source}: {found.note}."]
    for name, use in LISTS.items():
        if words := getattr(found.words, name):
            lines += ["", f"{name} ({use}), {len(words)}", _wrapped(", ".join(words))]
    lines += ["", f"not protected, {len(found.dropped)}"]
    lines += [f"  {one}" for one in found.dropped] or [
        "  no word was in the concept's space and protected too"
    ]
    chosen = f"{replacement.word}: {replacement.reason}" if replacement else "none is dissimilar enough"
    return [*lines, "", "replacement", _wrapped(chosen), *([] if out is None else ["", f"Result: {out}"])]


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="  ")
