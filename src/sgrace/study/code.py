"""The code that makes a result, as a digest: comments and docstrings are no part of it."""

from __future__ import annotations

import ast
import functools
import hashlib
from pathlib import Path

PACKAGE = Path(__file__).parent.parent


@functools.cache
def code_sha256(*roots: str) -> str:
    """Digest of modules and of all that :func:`modules_behind` finds.

    Args:
        roots: dotted names below ``sgrace``; a package stands for all modules in it.
    """
    total = hashlib.sha256()
    for name in sorted(modules_behind(*roots)):
        total.update(f"{name} {_syntax(name)}\n".encode())
    return total.hexdigest()


def modules_behind(*roots: str) -> set[str]:
    """Modules, and all modules of the package that they import, directly or not."""
    seen: set[str] = set()
    todo = [name for root in roots for name in _modules_of(root)]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += _imported_by(name)
    return seen


def _file(name: str) -> Path | None:
    path = PACKAGE.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _modules_of(root: str) -> list[str]:
    """A module, or all modules of a package."""
    folder = PACKAGE.joinpath(*root.split("."))
    inner = sorted(folder.rglob("*.py")) if folder.is_dir() else []
    found = [".".join(file.relative_to(PACKAGE).with_suffix("").parts) for file in inner]
    return [root, *(name.removesuffix(".__init__") for name in found)]


@functools.cache
def _tree(name: str) -> ast.Module | None:
    file = _file(name)
    return None if file is None else ast.parse(file.read_text(encoding="utf-8"))


@functools.cache
def _syntax(name: str) -> str:
    """Digest of what a module does."""
    tree = _tree(name)
    if tree is None:
        return ""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [each for each in body if not _is_docstring(each)]  # type: ignore[attr-defined]
    return hashlib.sha256(_written(tree).encode()).hexdigest()


def _written(node: object) -> str:
    """A syntax tree as text, the same under every version of Python: they differ in what is empty."""
    if isinstance(node, list):
        return f"[{', '.join(map(_written, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.JoinedStr):
        # 3.12 alone ends nested formats with an empty text
        node.values = [each for each in node.values if not _is_empty(each)]
    fields = [f"{name}={_written(value)}" for name, value in ast.iter_fields(node) if value not in (None, [])]
    return f"{type(node).__name__}({', '.join(fields)})"


def _is_empty(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == ""


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


@functools.cache
def _imported_by(name: str) -> tuple[str, ...]:
    """Modules of the package that a module names in its imports, also inside functions."""
    tree = _tree(name)
    if tree is None:
        return ()
    file = _file(name)
    package = name.split(".") if file is not None and file.name == "__init__.py" else name.split(".")[:-1]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = package[: len(package) - node.level + 1]
            start = [*above, *(node.module.split(".") if node.module else [])]
            # what is imported may be a module itself
            found += [".".join([*start, alias.name]) for alias in node.names] + [".".join(start)]
    return tuple(dict.fromkeys(each for each in found if each and _file(each) is not None))
