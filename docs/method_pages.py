"""The generated part of a method's page: ``python docs/method_pages.py NAME`` prints it.

It holds facts and settings of the eraser, what differs from its paper and release, and measured figures, each
from one place: the class and its schema, `papers.md`, and the log of the comparison.
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

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "benchmarks" / "results"
sys.path.append(str(DOCS.parent / "benchmarks"))

from comparison_cells import has_settings, settings_of  # noqa: E402

#: What a column of figures shows, and the question of the log that it is from.
QUESTIONS = {
    "by name": "target",
    "withheld neighbours": "withheld neighbours",
    "withheld unrelated": "withheld unrelated",
    "rest": "rest",
}
HEAD = ["concept", "preset", "prompt attacks", "learned word", *QUESTIONS]
#: Models that stand beside each eraser in the log, and what they are called here.
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
def log() -> list[dict[str, Any]]:
    """Cells of the comparison whose presets are still what they were, one for each key."""
    lines = (RESULTS / "compare_erasers.jsonl").read_text(encoding="utf-8").splitlines()
    found: dict[str, dict[str, Any]] = {}
    for row in map(json.loads, lines):
        if has_settings(row, settings_of(row["key"])):
            found.setdefault(json.dumps(row["key"]), row)
    return list(found.values())


def share(rate: Mapping[str, Any] | None) -> str:
    """A share with its interval."""
    return f"{rate['share']:.0%} [{rate['low']:.0%}, {rate['high']:.0%}]" if rate else " "


def cells_of(row: Mapping[str, Any]) -> list[str]:
    """A cell of the log as a row of the table."""
    evaluation = row["evaluation"]
    learned = [each["success"] for each in evaluation["attacks"] if each["attack"] == "concept_inversion"]
    kept = {each["question"]: each["after"] for each in evaluation["retention"]}
    return [
        share(evaluation["worst_case_by_prompt"]),
        share(learned[0] if learned else None),
        *(share(kept.get(question)) for question in QUESTIONS.values()),
    ]


def of_the_log(name: str) -> str:
    """Figures of this version, with the models that bound them; empty where there are none."""
    own = [row for row in log() if row["key"]["eraser"] == name and row["key"]["suite"] == "standard"]
    rows = []
    for concept in dict.fromkeys(row["key"]["concept"] for row in log()):
        here = [row for row in own if row["key"]["concept"] == concept]
        beside = [
            row
            for eraser in REFERENCES
            for row in log()
            if row["key"]["eraser"] == eraser and row["key"]["concept"] == concept
        ]
        for row in [*here, *beside] if here else []:
            title = row["key"]["preset"] or REFERENCES[row["key"]["eraser"]]
            seed = f", seed {row['key']['seed']}" if row["key"]["seed"] else ""
            rows.append([concept, f"{title}{seed}", *cells_of(row)])
    if not rows:
        return ""
    return f"{HOW_TO_READ} [All tables](../results/comparison.md).\n\n{table(HEAD, rows)}"


def figures(name: str) -> str:
    """What was measured."""
    elsewhere = (RESULTS / "transfer.jsonl").read_text(encoding="utf-8")
    found = of_the_log(name) or "This method was not measured under the suite `standard`."
    if f'"eraser": "{name}"' in elsewhere:
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
