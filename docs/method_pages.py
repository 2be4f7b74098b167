"""The generated part of a method's page: ``python docs/method_pages.py NAME`` prints it.

It holds facts and settings of the eraser, what differs from its paper and release, and measured figures, each
from one place: the class and its schema, `papers.md`, and the results of `studies/main.yaml`.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from sgrace._util import registry
from sgrace.cli import main
from sgrace.metrics.repeated import mean_share
from sgrace.study.lines import Line
from sgrace.study.results import read_results
from sgrace.study.table import by_prompt

DOCS = Path(__file__).parent
MAIN = DOCS.parent / "studies" / "results" / "main.json"
TRANSFER = MAIN.with_name("transfer.json")

#: What a column of figures shows, and the question that it is from.
QUESTIONS = {
    "by name": "target",
    "withheld neighbours": "withheld neighbours",
    "withheld unrelated": "withheld unrelated",
    "rest": "rest",
}
HEAD = ["concept", "preset", "prompt attacks", "learned word", *QUESTIONS]
#: Models that stand beside each eraser, and what they are called here.
REFERENCES = {"original": "*before*", "gold": "*retrained*"}
HOW_TO_READ = "[How to read these figures](README.md#how-to-read-the-figures)."
#: Beginnings of the paragraphs of a docstring that say what was decided here.
DECISIONS = ("Differs from the release", "Public facts that are kept", "Not public, chosen here")


def printed(*arguments: str) -> Any:  # noqa: ANN401  (JSON)
    """What a command of sgrace prints as JSON."""
    return json.loads(CliRunner().invoke(main, [*arguments, "--json"], catch_exceptions=False).stdout)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    every = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in every)


def cell(text: object) -> str:
    """A text as a cell of a table may hold it."""
    return str(text).replace("|", "\\|") or " "


# -- facts ---------------------------------------------------------------------------------------------------


@cache
def matrix() -> dict[str, Any]:
    """What each eraser needs and where it runs."""
    found: dict[str, Any] = printed("list", "--matrix")
    return found


def papers_row(name: str) -> list[str]:
    """Paper, what is here, and what was reproduced, as `papers.md` says, with links that work from here."""
    text = (DOCS / "papers.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{name}` \|(.*)\|$", text, re.MULTILINE)
    if row is None:
        raise SystemExit(f"docs/papers.md has no row {name!r}.")
    linked = re.sub(r"\]\((?!https?:)", "](../", row[1])
    return [part.strip() for part in linked.split(" | ")]


def facts(name: str, info: Mapping[str, Any]) -> str:
    """What it is and where it runs."""
    row = matrix()[name]
    licence = row["authors' code"]
    runs = [family for family, why in row["runs"].items() if not all(why.values())]
    stays = [f"`{family}`" for family in row["runs"] if family not in runs]
    return table(
        ["", ""],
        [
            ["paper", papers_row(name)[0]],
            ["authors' code", f"{licence}; none of it is in this project"],
            ["changes", row["changes"]],
            ["needs", row["needs"]],
            ["leaves", row["leaves"]],
            [
                "runs on",
                ", ".join(f"`{family}`" for family in runs)
                + (
                    f"; not on {', '.join(stays)} ([why](../erasers.md#what-each-method-needs))"
                    if stays
                    else ""
                ),
            ],
            *([["cost", cell(info["cost"])]] if info["cost"] else []),
        ],
    )


def decisions(name: str) -> Iterator[str]:
    """Paragraphs of the docstring on what was decided, as Markdown."""
    plugin = registry.load("erasers", name)
    for paragraph in inspect.cleandoc(plugin.__doc__ or "").split("\n\n"):
        if paragraph.startswith(DECISIONS):
            text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", paragraph).replace("``", "`")
            lines = [line.strip() for line in text.splitlines()]
            yield re.sub(r"\n(?!- )", " ", "\n".join(lines)).replace("\n- ", "\n\n- ", 1)


def differences(name: str) -> str:
    """What is implemented, what was tested, and what differs."""
    _, here, reproduced = papers_row(name)
    parts = [f"**Implemented**: {here}."]
    if reproduced.startswith("formula"):
        parts.append("**Tested**: the formula, against an independent computation or a direct transcription.")
        rest = reproduced.removeprefix("formula").removeprefix(". ")
        parts += [f"**Here**: {rest}."] if rest else []
    else:
        parts.append(f"**Tested**: {reproduced}.")
    return "\n\n".join([*parts, *decisions(name)])


# -- settings ------------------------------------------------------------------------------------------------


def told(value: object) -> str:
    """A value as the command line takes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value) or "''"


def _values(values: Mapping[str, Any]) -> str:
    return ", ".join(f"`{key}={told(value)}`" for key, value in values.items())


def settings(info: Mapping[str, Any]) -> str:
    """Presets and settings, from the schema."""
    default = info["default_preset"]
    presets = []
    for name, values in info["presets"].items():
        own = [_values(values) or "the settings' defaults"]
        own += [f"{kind}: {_values(more)}" for kind, more in info["presets_by_kind"].get(name, {}).items()]
        presets.append([f"`{name}`" + (" (default)" if name == default else ""), "; ".join(own)])
    rows = []
    for setting in info["settings"]:
        kinds = ", ".join(f"`{choice}`" for choice in setting["choices"])
        kind = kinds or f"{setting['type']} {setting['range']}".strip()
        rows.append(
            [f"`{setting['name']}`", f"`{told(setting['default'])}`", kind, cell(setting["description"])]
        )
    return "\n\n".join(
        [table(["preset", "settings"], presets), table(["setting", "default", "values", "meaning"], rows)]
    )


# -- figures -------------------------------------------------------------------------------------------------


@cache
def measured() -> list[tuple[str, Line]]:
    """Concepts and rows of the study that compares all erasers."""
    rows = read_results(MAIN).rows
    return [(row.protocol["concept"]["name"], row.line()) for row in rows]


def cells_of(line: Line) -> list[str]:
    """A row of the study as one of the table."""
    attacks = list(line.verdicts[0])
    counts = [line.counts([question]) for question in QUESTIONS.values()]
    shares = [line.share(by_prompt(attacks)), line.share(["concept_inversion"])]
    return [*map(str, shares), *("" if each is None else str(mean_share(each)) for each in counts)]


def of_the_study(name: str) -> str:
    """Figures of this version, with the models that bound them; empty where there are none."""
    rows = []
    for concept in dict.fromkeys(concept for concept, _ in measured()):
        here = [line for each, line in measured() if each == concept]
        own = [line for line in here if line.evaluations[0].method == name]
        beside = [line for line in here if line.title in REFERENCES]
        for line in [*own, *beside] if own else []:
            preset = line.title.partition(", ")[2] or "emoji"
            seeds = f", {len(line.seeds)} seeds" if len(line.seeds) > 1 else ""
            rows.append([concept, f"{REFERENCES.get(line.title, preset)}{seeds}", *cells_of(line)])
    if not rows:
        return ""
    return f"{HOW_TO_READ} [All tables](../results/comparison.md).\n\n{table(HEAD, rows)}"


def figures(name: str) -> str:
    """What was measured."""
    elsewhere = {row.evaluations[0].method for row in read_results(TRANSFER).rows}
    found = of_the_study(name) or "This method was not measured under the suite `standard`."
    if name in elsewhere:
        found += (
            "\n\nIts text encoder was also measured [in another denoiser](../results.md#another-denoiser)."
        )
    return found


def page(name: str) -> str:
    """The whole generated part."""
    info = printed("info", name, "--group", "erasers")
    preset = "emoji" if "emoji" in info["presets"] else info["default_preset"]
    return "\n\n".join(
        [
            facts(name, info),
            f"## Run it\n\n```sh\nsgrace erase church --method {name} --preset {preset} --out safe\n```",
            f"## What differs from the paper and its release\n\n{differences(name)}",
            f"## Measured\n\n{figures(name)}",
            f"## Settings\n\n{settings(info)}",
        ]
    )


if __name__ == "__main__":
    print(page(sys.argv[1]))
