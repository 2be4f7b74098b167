"""What the command line says of itself: help, lists, explanations, completion, versions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from sgrace._util import registry
from sgrace.cli import main
from sgrace.testbeds import emoji

from .conftest import assert_refused, sgrace

GROUPS = ("erasers", "attacks", "detectors", "testbeds")
PLUGINS = [(group, name) for group in GROUPS for name in registry.names(group)]
DOCS = Path(__file__).parent.parent.parent / "docs"


def commands(group: click.Group = main) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield name, command
        if isinstance(command, click.Group):
            yield from commands(command)


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_every_option_is_explained(name: str, command: click.Command) -> None:
    for option in [param for param in command.params if isinstance(param, click.Option)]:
        assert option.help, f"{name} {option.name}"
        assert option.help.rstrip(" ]").endswith((".", "models", "base", "others", "emoji")), (
            f"{name} {option.name}"
        )
        assert ("--out" in option.opts) == ("-o" in option.opts)


def test_help_in_both_spellings() -> None:
    for name in main.commands:
        short = sgrace(name, "-h")
        assert short.exit_code == 0, short.output
        assert short.stdout == sgrace(name, "--help").stdout
    assert "\n    sgrace erase weapon -o safe\n" in sgrace("erase", "-h").stdout, (
        "lines of examples are not joined"
    )


def test_list_is_quick_and_complete() -> None:
    printed = sgrace("list").stdout
    assert all(f" {name}" in printed for _, name in PLUGINS)
    assert max(map(len, printed.splitlines())) <= 110
    found = json.loads(sgrace("list", "--json").stdout)
    assert found["concepts"] == emoji.known_concepts()
    assert sgrace("list", "erasers").stdout.splitlines()[0] == "erasers"
    code = "import sys; sys.argv = ['sgrace', 'list']\n"
    code += "import contextlib\nfrom sgrace.cli import main\n"
    code += "with contextlib.suppress(SystemExit): main()\n"
    code += "print({'torch', 'pydantic', 'numpy'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "set()", "what takes long to import is not imported"


@pytest.mark.parametrize(("group", "name"), PLUGINS)
def test_info_explains_every_plug_in(group: str, name: str) -> None:
    found = json.loads(sgrace("info", name, "--group", group, "--json").stdout)
    plugin = registry.load(group, name)
    config = getattr(plugin, "config_type", None) or getattr(plugin, "options_type", None)
    assert [setting["name"] for setting in found["settings"]] == list(config.model_fields if config else ())
    assert set(found["presets"]) == set(getattr(plugin, "presets", ()))
    assert found["title"]
    assert all(setting["description"] for setting in found["settings"])
    page = sgrace("info", name, "--group", group).stdout
    assert all(setting["name"] in page for setting in found["settings"])


def test_info_tells_what_a_preset_sets_by_the_kind_of_the_concept() -> None:
    found = json.loads(sgrace("info", "sgrace", "--json").stdout)
    assert found["presets_by_kind"]["text"] == {
        "object": {"replacement_rule": "least_alike"},
        "style": {"soft_prompts": 4, "retain_weight": 15.0},
    }
    assert "kind object: replacement_rule=least_alike" in sgrace("info", "sgrace").stdout


def test_info_of_unknown_names() -> None:
    assert_refused(sgrace("info", "sgrase"), "did you mean 'sgrace'")
    assert_refused(sgrace("info", "esd", "--group", "attacks"), "Unknown attack")


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("sgrace erase chur", "church"),
        ("sgrace erase church --method es", "esd"),
        ("sgrace erase church --preset publ", "published"),
        ("sgrace erase church --method stereo --preset em", "emoji"),
        ("sgrace attack safe --attacks none,p4", "none,p4d_k"),
        ("sgrace attack safe --effort q", "quick"),
        ("sgrace attack safe --detector al", "always"),
        ("sgrace info pe", "pez"),
        ("sgrace eval", "evaluate"),
        ("sgrace generate x --device cu", "cuda"),
    ],
)
def test_values_are_completed(line: str, wanted: str) -> None:
    words = line.split()
    environment = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_SGRACE_COMPLETE": "bash_complete"}
    code = "import contextlib, sys\nfrom sgrace.cli import main\n"
    code += "with contextlib.suppress(SystemExit): main(prog_name='sgrace')\n"
    code += "print({'torch', 'pydantic', 'numpy'} & set(sys.modules), file=sys.stderr)"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert f"plain,{wanted}" in run.stdout.splitlines(), run
    assert run.stderr == "set()\n", "what takes long to import is not imported"


@pytest.mark.parametrize("name", registry.names("erasers"))
def test_presets_are_read_from_the_source(name: str) -> None:
    assert registry.preset_names("erasers", name) == list(registry.load("erasers", name).presets)


def test_presets_are_those_of_the_method() -> None:
    context = click.Context(main.commands["erase"])
    context.params["method"] = "esd"
    preset = next(param for param in main.commands["erase"].params if param.name == "preset")
    assert [item.value for item in preset.shell_complete(context, "em")] == ["emoji"]


def test_env_and_version() -> None:
    found = json.loads(sgrace("env", "--json").stdout)
    assert found["sgrace"] in sgrace("--version").stdout
    assert found["devices"][0] == "cpu"
    assert "threads: " in sgrace("env").stdout


@pytest.mark.slow
def test_nothing_of_other_libraries_is_printed() -> None:
    code = "import sgrace; model = sgrace.load_model(); model.pipeline"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("", "")


def test_the_document_of_the_erasers_has_the_matrix_as_it_is_now() -> None:
    printed = sgrace("list", "--matrix")
    assert printed.exit_code == 0
    assert printed.stdout.strip() in (DOCS / "erasers.md").read_text()
    rows = json.loads(sgrace("list", "--matrix", "--json").stdout)
    assert set(rows) == {*registry.names("erasers"), *registry.names("attacks")}
