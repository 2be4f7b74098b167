"""Names to plug-ins. A folder is the registry: the file ``sgrace/erasers/esd.py`` is the eraser ``esd``.

Listing names imports nothing. Other packages add plug-ins by the entry-point group ``sgrace.<group>``.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import unknown

#: Group of plug-ins -> their base class, ``module:class`` within ``sgrace``.
BASES = {
    "erasers": "erasers.base:Eraser",
    "attacks": "attacks.base:Attack",
    "detectors": "detectors.base:Detector",
    "testbeds": "testbeds.base:Testbed",
    "export": "export.base:Format",
}
#: Groups whose plug-ins have settings, or are named by users as what they work with.
GROUPS = ("erasers", "attacks", "detectors", "testbeds")


def names(group: str) -> dict[str, str]:
    """Name -> module (or entry point), of every plug-in of a group, by name."""
    spec = find_spec(f"sgrace.{group}")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    stems = [module.name for module in pkgutil.iter_modules(folders)]
    plugins = [stem for stem in stems if not stem.startswith("_") and stem not in HELPERS]
    found = {stem: f"sgrace.{group}.{stem}" for stem in plugins}
    return dict(sorted({**_of_other_packages(group), **found}.items()))


@cache
def _of_other_packages(group: str) -> dict[str, str]:
    """Entry points by name. To find them, the metadata of every installed package is read: once is enough."""
    return {point.name: point.value for point in metadata.entry_points(group=f"sgrace.{group}")}


#: Files of the plug-in folders that are no plug-ins, though other rooms import them.
HELPERS = {
    "base",
    "scene",
    "rescored",
    "session",
    "attack_set",
    "prompt_files",
    "files",
    "questions",
    "rescoring",
    "scenes",
    "loading",
    "word_sources",
}


def load(group: str, name: str) -> Any:  # noqa: ANN401  (the group decides the type)
    """The plug-in class of a name.

    Raises:
        InputError: no plug-in has that name; the error names the nearest one.
        TypeError: the file of that name does not define one class of that name.
    """
    known = names(group)
    if name not in known:
        raise unknown(group.removesuffix("s"), name, known)
    module, _, attribute = known[name].partition(":")
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else _plugin(found, group, name)


def preset_names(group: str, name: str) -> list[str]:
    """Names of a plug-in's presets, read from its source: importing it would take seconds.

    They are the keys of the dictionary that is written as ``PRESETS`` or, within the class, as ``presets``.
    Plug-ins of other packages have none here.
    """
    spec = find_spec(f"sgrace.{group}.{name}")
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()] if spec else []
    files = [file for folder in folders for file in folder.glob("*.py")]
    if spec and spec.origin:
        files.append(Path(spec.origin))
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    tables = [
        node.value
        for node in nodes
        if isinstance(node, ast.Assign | ast.AnnAssign) and _assigned(node) in {"PRESETS", "presets"}
    ]
    keys = [key for table in tables if isinstance(table, ast.Dict) for key in table.keys]
    return list(dict.fromkeys(str(key.value) for key in keys if isinstance(key, ast.Constant)))


def _assigned(node: ast.Assign | ast.AnnAssign) -> str:
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    return target.id if isinstance(target, ast.Name) else ""


def _plugin(module: ModuleType, group: str, name: str) -> Any:  # noqa: ANN401
    """The class of a module that is a plug-in of the group and carries the file's name."""
    home, _, base_name = BASES[group].partition(":")
    base = getattr(importlib.import_module(f"sgrace.{home}"), base_name)
    members = [
        getattr(module, member) for member in dir(module)
    ]  # also what is imported when it is asked for
    classes = [value for value in members if inspect.isclass(value) and issubclass(value, base)]
    own = [value for value in classes if value.__dict__.get("name") == name and not inspect.isabstract(value)]
    if len(own) != 1:
        wanted = f"one {base_name} with name = {name!r}"
        raise TypeError(f"{module.__name__} must define {wanted}; it has {len(own)}.")
    return own[0]
