"""The model card of an erasure or an export: what was done, what was measured, how to load it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .._util.provenance import versions
from .._util.text import visible
from ..models.origin import exists
from .recipe import Base, Recipe

CARD = "README.md"
NO_GUARANTEE = (
    "This is no guarantee: other prompts, stronger attacks or further training may bring the concept back, "
    "and nobody has measured everything else that changed."
)
NOT_EVALUATED = "Nobody has evaluated it: `sgrace evaluate` attacks it and counts what is left."
#: The licence in the front matter of the base model's own card.
_LICENCE = re.compile(r"^license:\s*['\"]?([\w.-]+)", re.MULTILINE)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class Loading(NamedTuple):
    """How one program loads it: its name, and what to type or to click.

    In the code, ``DIR`` is the folder of the card, ``BASE`` the model before erasing, ``CONCEPT`` its name.
    """

    tool: str
    code: str
    language: str = "python"


def card(
    recipes: Sequence[Recipe],
    loading: Iterable[Loading],
    *,
    notes: Iterable[str] = (),
    evaluated: Sequence[str] = (),
    digests: Mapping[str, str] | None = None,
) -> str:
    """The text of a model card in Markdown, with the front matter that the hub reads.

    Args:
        recipes: of the erasures that were applied, in order.
        loading: how programs load it.
        notes: what else the user must know.
        evaluated: lines about an evaluation; none, if there is none.
        digests: SHA-256 of files by name.
    """
    sections = [
        _front_matter(recipes[0].base),
        f"# {title(recipes)}\n\n{NO_GUARANTEE}",
        "## What was done\n\n" + "\n\n".join(_done(recipe) for recipe in recipes),
        "\n".join(f"- {note}" for note in notes),
        "\n".join(["## What was measured", "", *(evaluated or (NOT_EVALUATED,))]),
        "## How to load it\n\n" + "\n\n".join(_how(each, recipes) for each in loading),
        "## Versions and digests\n\n" + _digests(recipes, digests or {}),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def title(recipes: Sequence[Recipe]) -> str:
    """``church and dog erased from OWNER/NAME``."""
    names = [concept.name for recipe in recipes for concept in recipe.concepts]
    listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return visible(f"{listed} erased from {source_of(recipes[0].base)}")


def source_of(base: Base) -> str:
    """Name of the base model; of a folder or file its own name, as its place is nobody's business."""
    return Path(base.source).name if exists(base.source) or base.source.startswith("/") else base.source


def facts(recipes: Sequence[Recipe]) -> dict[str, str]:
    """The card in a few short texts, for the header of a file."""
    told = {
        "method": ", ".join(dict.fromkeys(recipe.method for recipe in recipes)),
        "concepts": ", ".join(concept.name for recipe in recipes for concept in recipe.concepts),
        "base": source_of(recipes[0].base),
        "base_revision": recipes[0].base.revision or "",
        "version": versions().get("sgrace", ""),
        "warning": NO_GUARANTEE,
    }
    return {f"sgrace.{name}": value for name, value in told.items() if value}


def _front_matter(base: Base) -> str:
    lines = [f"license: {_licence(base) or 'other'}", "library_name: diffusers"]
    if not exists(base.source) and _HUB_ID.fullmatch(base.source):
        lines.append(f"base_model: {base.source}")
    return "\n".join(["---", *lines, "tags:", "- concept-erasure", "- sgrace", "---"])


def _licence(base: Base) -> str:
    """The licence that the base model's card names, where it is on this machine."""
    own = Path(base.source) / CARD
    found = _LICENCE.search(own.read_text(encoding="utf-8", errors="replace")) if exists(own) else None
    return found[1] if found else ""


def _done(recipe: Recipe) -> str:
    base = recipe.base
    known = _licence(base)
    rows = {
        "concept": "; ".join(f"{own.name} ({own.kind or 'kind not stated'})" for own in recipe.concepts),
        "method": recipe.method + (f" ({recipe.paper})" if recipe.paper else ""),
        "settings": f"preset {recipe.preset or 'default'}, seed {recipe.seed}; the recipe has all of them",
        "base": source_of(base) + (f", revision {base.revision}" if base.revision else ""),
        "loaded with": ", ".join(_beside(base)),
        "licence": f"that of the base model{f', {known}' if known else ''}; it holds for these weights too",
        "changed": ", ".join(sorted(base.sha256)),
    }
    return "\n".join(
        ["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in rows.items() if value)]
    )


def _beside(base: Base) -> list[str]:
    """What was loaded beside the base model; of files and folders the name alone."""
    told = [f"variant {base.variant}"] if base.variant else []
    parts = [("config", base.config), *base.text_encoder.items(), ("denoiser", base.denoiser)]
    parts += [("LoRA", each) for each in base.loras] + [("embedding", each) for each in base.embeddings]
    for what, source in parts:
        if source:
            told.append(f"{what} {_name(source)}")
    return told


def _name(source: str) -> str:
    return Path(source).name if Path(source).is_absolute() else source


def _cell(text: str) -> str:
    """A text that somebody else may have written, as one cell of a table."""
    return visible(text).replace("|", "\\|")


def _how(loading: Loading, recipes: Sequence[Recipe]) -> str:
    """One program's block, in which capitals that stand for base and concept are filled in.

    Both may be of somebody else, and a shell or Python would run what a name like ``$(...)`` holds.
    """
    quoted = shlex.quote if loading.language == "sh" else _in_quotes
    names = {"BASE": source_of(recipes[0].base), "CONCEPT": recipes[-1].concepts[0].name}
    known = _of_one_file(loading.code, recipes[0].base)
    code = re.sub("|".join(names), lambda found: quoted(visible(names[found[0]])), known)
    return f"{loading.tool}:\n\n```{loading.language}\n{code}\n```"


def _of_one_file(code: str, base: Base) -> str:
    """The code for a base that is a checkpoint in one file, of which diffusers reads no folder."""
    if not base.source.endswith(".safetensors"):
        return code
    settings = f', config="{_in_quotes(_name(base.config))}"' if base.config else ""
    # the configuration of what was exported is that of its base
    return code.replace(', config="BASE"', settings).replace(
        '.from_pretrained("BASE"', f'.from_single_file("BASE"{settings}'
    )


def _in_quotes(text: str) -> str:
    """A text inside of a string of Python."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _digests(recipes: Sequence[Recipe], files: Mapping[str, str]) -> str:
    lines = [
        f"- made with {', '.join(f'{name} {version}' for name, version in recipes[-1].versions.items())}"
    ]
    lines += [
        f"- base, {component} in {dtype}: `{digest}`"
        for component, own in recipes[0].base.sha256.items()
        for dtype, digest in own.items()
    ]
    return "\n".join(map(visible, [*lines, *(f"- {name}: `{digest}`" for name, digest in files.items())]))
