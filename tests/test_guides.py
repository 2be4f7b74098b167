"""Python of guides whose models do not fit here runs on small models of the same classes.

What cannot run even so is compared with the real signatures: every call, attribute and argument.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any, Self, get_type_hints

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

import sgrace
from sgrace._util import registry
from sgrace.cli import main

from .shorter import shorten
from .small_models import small_images, stand_ins
from .test_documents import DOCUMENTS, ROOT, blocks, imports_of, python_documents, run
from .test_page_commands import WORDS

__all__ = ["small_images", "stand_ins"]  # fixtures


@pytest.mark.parametrize("document", python_documents(), ids=lambda path: path.name)
def test_python_runs_on_small_models(
    document: Path, stand_ins: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Names of models become folders, a GPU the CPU, and methods are short."""
    found = [block for block in blocks(document, "python") if block.mark == "on small models"]
    if not found:
        return
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text(WORDS, encoding="utf-8")
    shorten(monkeypatch)
    module = ModuleType("document")
    for block in found:
        text = block.text.replace('"cuda"', '"cpu"')
        for name, folder in stand_ins.items():
            text = text.replace(f'"{name}"', repr(folder))
        run(text, module, block.place)


# -- what cannot run -----------------------------------------------------------------------------------------


class Calls(ast.NodeVisitor):
    """Follows the types of names through code that does not run, and binds every call to its signature."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names
        self.bound = 0

    def value_of(self, node: ast.expr) -> Any:
        """An object, or the class of one that does not exist yet; None where nothing is known."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        if isinstance(node, ast.Attribute):
            owner = self.value_of(node.value)
            if owner is None:
                return None
            fields = getattr(owner, "model_fields", {})
            if node.attr in fields:
                return fields[node.attr].annotation
            assert hasattr(owner, node.attr), f"{owner} has no {node.attr}"
            found = getattr(owner, node.attr)  # of a class, a property is itself
            return get_type_hints(found.fget).get("return") if isinstance(found, property) else found
        return self.result_of(node) if isinstance(node, ast.Call) else None

    def result_of(self, node: ast.Call) -> Any:
        """The class of what a call returns, after its arguments were bound."""
        function = self.value_of(node.func)
        if function is None:
            return None
        owner = self.value_of(node.func.value) if isinstance(node.func, ast.Attribute) else None
        is_method = isinstance(owner, type) and not inspect.ismethod(function)
        values: list[Any] = [None] * (len(node.args) + is_method)
        named = {keyword.arg: None for keyword in node.keywords if keyword.arg}
        inspect.signature(function).bind(*values, **named)
        self.bound += 1
        returned = function if isinstance(function, type) else get_type_hints(function).get("return")
        return owner if returned is Self else returned

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        target = node.targets[0]
        if isinstance(target, ast.Name):
            self.names[target.id] = self.value_of(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        self.result_of(node)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.value_of(node)
        self.generic_visit(node)


def checked(texts: list[str]) -> int:
    """Number of calls in blocks that share their names, all of which fit."""
    module = ModuleType("document")
    calls = Calls(vars(module))
    for text in texts:
        run(imports_of(text), module, "imports")
        calls.visit(ast.parse(text))
    return calls.bound


@pytest.mark.parametrize("document", python_documents(), ids=lambda path: path.name)
def test_calls_that_do_not_run_fit_their_signatures(document: Path) -> None:
    found = [
        block for block in blocks(document, "python") if block.mark != "module" and ">>>" not in block.text
    ]
    if any(block.mark == "not run" and "import" in block.text for block in found):
        assert checked([block.text for block in found if "class " not in block.text]) > 0


@pytest.mark.parametrize(
    "wrong",
    [
        "import sgrace\nsgrace.erase('emoji')",
        "import sgrace\nsgrace.erase('emoji', 'church', presets='x')",
        "import sgrace\nerasure = sgrace.Erasure.from_pretrained('safe')\nerasure.push('x')",
        "import sgrace\nfound = sgrace.evaluate('safe')\nprint(found.verdict.words)",
    ],
)
def test_wrong_calls_are_found(wrong: str) -> None:
    assert sgrace.__version__
    with pytest.raises((TypeError, AssertionError)):
        checked([wrong])


# -- files that documents show -------------------------------------------------------------------------------


def test_study_files_fit_the_schema() -> None:
    schema = json.loads(CliRunner().invoke(main, ["study", "schema"], catch_exceptions=False).stdout)
    shown = [yaml.safe_load(block.text) for block in blocks(ROOT / "docs" / "studies.md", "yaml")]
    studies = [each for each in shown if "apiVersion" not in each]  # manifests of clusters
    assert studies
    for each in studies:
        jsonschema.validate(each, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": "x", "suit": "quick"}, schema)


def test_word_files_are_read(tmp_path: Path) -> None:
    (block,) = blocks(ROOT / "docs" / "knowledge.md", "yaml")
    (tmp_path / "words.yaml").write_text(block.text, encoding="utf-8")
    assert sgrace.Knowledge.from_file(tmp_path / "words.yaml", "church").related


def test_entry_points_name_a_group() -> None:
    (block,) = blocks(ROOT / "docs" / "own-detector.md", "toml")
    (group,) = tomllib.loads(block.text)["project"]["entry-points"]
    assert group.removeprefix("sgrace.") in registry.GROUPS


def test_every_language_of_a_block_is_run_or_read() -> None:
    known = {"python", "sh", "yaml", "toml"}
    plain = {"text", "math"}  # files that recipes and guides write; formulas are built by `make site`
    fence = re.compile(r"^```(\w+)$", re.MULTILINE)
    found = {language for document in DOCUMENTS for language in fence.findall(document.read_text("utf-8"))}
    assert found <= known | plain
    elsewhere = [
        d.name for d in DOCUMENTS if blocks(d, "yaml") and d.name not in {"studies.md", "knowledge.md"}
    ]
    assert elsewhere == []
