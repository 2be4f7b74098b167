"""What documents show is true: Python runs, command lines parse, links lead somewhere, tables are up to date.

A block that cannot run here stands below ``<!-- not run: REASON -->``. Its imports are run all the same, and
its calls are compared with the real signatures (`test_guides.py`). One below ``<!-- on small models -->``
runs there with small models in the place of those that it names. A block that is a file of the package
stands below ``<!-- module: NAME -->`` and may use relative imports. Command lines are parsed here, and run in
`test_page_commands.py`.
"""

from __future__ import annotations

import ast
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import click
import pytest
from tables import refreshed

from sgrace._util import registry
from sgrace._util.settings import parse_pairs
from sgrace.cli import main
from sgrace.cli.rescore import AttackOrRescore, rescore

from .shorter import shorten

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md"]
DOCUMENTS += sorted((ROOT / "docs").rglob("*.md"))

BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>not run|module|on small models)(?:: (?P<value>.+?))? -->\n)?"
    r"```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
SPAN = re.compile(r"`(sgrace [^`\n]+)`")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
PLACEHOLDER = re.compile(r"[A-Z|_]+|\.\.\.")
#: Marks of blocks that `test_guides.py` runs or checks.
ELSEWHERE = {"not run", "on small models"}
#: What needs the network where it is run.
DOWNLOADS = re.compile(r"""(?:load_model|from_pretrained|erase)\(\s*["'][\w.-]+/[\w.-]+["']""")


class Block(NamedTuple):
    """A block of code of a document."""

    document: Path
    language: str
    text: str
    mark: str | None
    value: str | None

    @property
    def place(self) -> str:
        """Document and first line."""
        return f"{self.document.relative_to(ROOT)}: {self.text.splitlines()[0]}"


def blocks(document: Path, language: str) -> list[Block]:
    found = BLOCK.finditer(document.read_text(encoding="utf-8"))
    return [
        Block(document, m["language"], m["text"], m["mark"], m["value"])
        for m in found
        if m["language"] == language
    ]


def python_documents() -> list[Path]:
    return [document for document in DOCUMENTS if blocks(document, "python")]


def imports_of(text: str) -> str:
    """The imports alone."""
    nodes = [node for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)]
    return "\n".join(map(ast.unparse, nodes))


def run(text: str, module: ModuleType, place: str) -> None:
    exec(compile(text, place, "exec"), vars(module))  # noqa: S102  (our own documents)


@pytest.mark.slow
@pytest.mark.parametrize("document", python_documents(), ids=lambda path: path.name)
def test_python_runs(document: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Blocks of a document run one after the other with shared names; what they ask for is short."""
    monkeypatch.chdir(tmp_path)
    shorten(monkeypatch)
    shared = ModuleType("document")
    for block in blocks(document, "python"):
        if ">>>" in block.text:  # doctest runs these
            continue
        if block.mark == "module":
            assert block.value is not None
            module = ModuleType(block.value)
            module.__package__ = block.value.rpartition(".")[0]
            monkeypatch.setitem(sys.modules, block.value, module)
            run(block.text, module, block.place)
        else:
            text = imports_of(block.text) if block.mark in ELSEWHERE else block.text
            run(text, shared, block.place)


@pytest.mark.parametrize("document", python_documents(), ids=lambda path: path.name)
def test_a_block_that_downloads_is_marked(document: Path) -> None:
    for block in blocks(document, "python"):
        assert block.mark in ELSEWHERE or not DOWNLOADS.search(block.text), block.place


# -- command lines -------------------------------------------------------------------------------------------


def commands_of(text: str) -> Iterator[str]:
    """Command lines of a block, without comments, continuation marks and prompts."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield shlex.join(words)


def command_lines(*, marked: bool) -> list[tuple[str, str]]:
    """Document and command line of every ``sgrace`` in blocks that are, or are not, marked as not run."""
    found = []
    for document in DOCUMENTS:
        for block in blocks(document, "sh"):
            lines = [line.removeprefix(".venv/bin/") for line in commands_of(block.text)]
            if marked == (block.mark == "not run"):
                found += [(document.name, line) for line in lines if line.startswith("sgrace ")]
    return found


def spans() -> list[tuple[str, str]]:
    """Document and command line of every ``sgrace`` within a sentence."""
    found = [
        (d.name, m[1]) for d in DOCUMENTS for m in SPAN.finditer(BLOCK.sub("", d.read_text(encoding="utf-8")))
    ]
    return list(dict.fromkeys(found))


def parse(line: str, *, whole: bool) -> None:
    """Parse a command line without running it: names of options, choices and plug-ins.

    Args:
        line: as typed.
        whole: required options must be there, and values are checked too.
    """
    command: click.Command = main
    args = shlex.split(line)[1:]
    context = click.Context(main, info_name="sgrace", **main.context_settings)
    while isinstance(command, click.Group) and args and not args[0].startswith("-"):
        found = command.get_command(context, args[0])
        assert found is not None, f"there is no command {args[0]!r}"
        command = found
        context = click.Context(command, info_name=args[0], parent=context)
        args = args[1:]
    if isinstance(command, AttackOrRescore) and command.is_rescore(args):
        args = command.as_rescore(args)
        command = rescore
        # not without a parent: a command keeps its help option with the names of its first context
        context = click.Context(command, info_name="rescore", parent=context.parent)
    values, _, _ = command.make_parser(context).parse_args(args)
    for param in command.params:
        assert param.name is not None
        value = values.get(param.name)
        given = value not in (None, (), param.get_default(context, call=False))
        is_given = isinstance(value, str | tuple | list | bool) and given
        assert is_given or not whole or not param.required, f"{param.name} is missing"
        is_text = is_given and not PLACEHOLDER.fullmatch(str(value))
        if whole and is_text and not isinstance(param.type, click.Path):
            param.type_cast_value(context, value)
    if whole and command.name == "erase":
        eraser = registry.load("erasers", values.get("method") or "sgrace")
        eraser.preset(values.get("preset"), "object", parse_pairs(tuple(values.get("pairs") or ())))


@pytest.mark.parametrize(("document", "line"), command_lines(marked=False))
def test_a_command_of_a_block_parses(document: str, line: str) -> None:
    del document  # names the test
    parse(line, whole=True)


@pytest.mark.parametrize(("document", "line"), [*spans(), *command_lines(marked=True)])
def test_a_command_in_a_sentence_has_only_options_that_exist(document: str, line: str) -> None:
    del document
    parse(line, whole=False)


def test_wrong_lines_are_found() -> None:
    for line in (
        "sgrace erase church --knowledge words.txt --out a",
        "sgrace attack safe --budget quick --out a",
    ):
        with pytest.raises(click.NoSuchOption):
            parse(line, whole=True)
    for line in ("sgrace erase church", "sgrace forget church --out a"):
        with pytest.raises(AssertionError):
            parse(line, whole=True)
    with pytest.raises(click.BadParameter):
        parse("sgrace evaluate safe --suite huge --out a", whole=True)


def test_tests_that_documents_name_exist() -> None:
    named = [
        m for d in DOCUMENTS for m in re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", d.read_text("utf-8"))
    ]
    assert named
    assert [name for file, name in named if f"def {name}(" not in (ROOT / file).read_text("utf-8")] == []


def test_scripts_of_documents_exist() -> None:
    named = []
    for document in DOCUMENTS:
        words = " ".join(block.text for block in blocks(document, "sh")).split()
        named += [word for word in words if re.fullmatch(r"[\w/]+\.py", word)]
    assert named
    assert [word for word in named if not (ROOT / word).is_file()] == []


# -- links and tables ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document: Path) -> None:
    links = LINK.findall(BLOCK.sub("", document.read_text(encoding="utf-8")))
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_generated_parts_are_up_to_date() -> None:
    written = [document for document in DOCUMENTS if "<!-- output of: " in document.read_text("utf-8")]
    assert len(written) > len(registry.names("erasers"))  # a page for each, and the matrix
    old = [document.name for document in written if refreshed(text := document.read_text("utf-8")) != text]
    assert old == [], "run `make docs`"
