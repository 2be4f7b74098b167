"""Rules of style that the linter has none for. ``python -m tests.test_style`` prints every offender."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TREES = ("src", "tests", "benchmarks")
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def kind(node: ast.expr) -> str:
    """Kind of a value on the right of a tuple assignment: numbers, names and arithmetic are one kind."""
    if isinstance(node, ast.Constant) and not isinstance(node.value, int | float):
        return type(node.value).__name__
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        return "bool"
    values = (ast.Constant, ast.Name, ast.Attribute, ast.Subscript, ast.BinOp, ast.UnaryOp)
    return "value" if isinstance(node, values) else type(node).__name__


def unpackings(tree: ast.Module) -> Iterator[tuple[int, ast.expr]]:
    """Line and right side of each assignment to several names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple | ast.List):
            yield node.lineno, node.value


def unpacked_generators(tree: ast.Module, _: str) -> Iterator[int]:
    for line, value in unpackings(tree):
        if isinstance(value, ast.GeneratorExp | ast.ListComp):
            yield line


def packed_assignments(tree: ast.Module, _: str) -> Iterator[int]:
    for line, value in unpackings(tree):
        if isinstance(value, ast.Tuple) and len({kind(element) for element in value.elts}) > 1:
            yield line


def long_comprehensions(tree: ast.Module, _: str) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, COMPREHENSIONS) and len(node.generators) > 2:
            yield node.lineno


def returned_triples(tree: ast.Module, _: str) -> Iterator[int]:
    """Functions that return three or more values as a bare tuple; a shape of integers is one value."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        returns = node.returns
        if isinstance(returns, ast.Subscript) and ast.unparse(returns.value) == "tuple":
            elements = returns.slice.elts if isinstance(returns.slice, ast.Tuple) else []
            if len(elements) > 2 and {ast.unparse(element) for element in elements} != {"int"}:
                yield node.lineno


def skipped_formatting(tree: ast.Module, text: str) -> Iterator[int]:
    """``fmt: skip`` anywhere but at a table of presets."""
    tables: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if "preset" in ast.unparse(target).lower():
                tables.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    for number, line in enumerate(text.splitlines(), 1):
        if line.rstrip().endswith("# fmt: skip") and number not in tables:
            yield number


RULES = {
    "unpacked generators": unpacked_generators,
    "packed assignments": packed_assignments,
    "comprehensions of three loops": long_comprehensions,
    "returned triples": returned_triples,
    "skipped formatting": skipped_formatting,
}


def offenders(rule: str, tree: str) -> list[str]:
    found: list[str] = []
    for path in sorted((ROOT / tree).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        numbers = RULES[rule](ast.parse(text), text)
        found += [f"{path.relative_to(ROOT)}:{number} {lines[number - 1].strip()}" for number in numbers]
    return found


def cases() -> Iterator[pytest.ParameterSet]:
    for rule in RULES:
        for tree in TREES:
            yield pytest.param(rule, tree)


@pytest.mark.parametrize(("rule", "tree"), list(cases()))
def test_rule(rule: str, tree: str) -> None:
    found = offenders(rule, tree)
    assert not found, f"{len(found)} offenders:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("rule", "bad", "good"),
    [
        ("unpacked generators", "a, b = (f(x) for x in y)", "a, b = f(y)"),
        ("packed assignments", "a, b = 1, Thing()", "a, b = b, a + b"),
        ("packed assignments", "a, b = None, 0", "low, high = 0.1, x.max"),
        ("comprehensions of three loops", "[a for a in b for c in a for d in c]", "[a for a in b]"),
        ("returned triples", "def f() -> tuple[int, str, bool]: ...", "def f() -> tuple[int, ...]: ..."),
        ("skipped formatting", "TABLE = {\n}  # fmt: skip", "PRESETS = {\n}  # fmt: skip"),
    ],
)
def test_the_rules_see_what_they_forbid(rule: str, bad: str, good: str) -> None:
    assert list(RULES[rule](ast.parse(bad), bad))
    assert not list(RULES[rule](ast.parse(good), good))


if __name__ == "__main__":
    for rule in RULES:
        for tree in TREES:
            found = offenders(rule, tree)
            print(f"{rule} in {tree}: {len(found)}", *found, sep="\n  ")
