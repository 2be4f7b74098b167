"""Who imports whom. ``python -m tests.test_architecture [PACKAGE FOLDER]`` prints the graph of the rooms
and every offender.

A room is a file or folder directly under ``src/sgrace``. Every import counts: at the top of a file, inside a
function, and under ``TYPE_CHECKING``. `docs/architecture.md` says why the rooms stand in this order.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "sgrace"

#: The rooms, bottom to top. A room imports from lower levels and from itself; siblings never meet.
LEVELS = (
    {"_util"},
    {"concept"},
    {"models", "metrics", "knowledge"},
    {"erasure"},
    {"detectors"},
    {"erasers", "attacks"},
    {"testbeds"},
    {"evaluation"},
    {"report"},
    {"export"},
    {"api"},
    {"study", "app"},
    {"__init__"},
    {"cli"},
    {"__main__"},
)
#: Lower rooms that a room must not import all the same.
FORBIDDEN = {"erasers": {"detectors", "metrics"}}

#: Only these places know what a diffusers pipeline looks like.
DIFFUSERS_ROOMS = ("models/families/", "testbeds/emoji/training/", "_util/provenance.py")
DIFFUSERS_WORDS = {
    "import diffusers": r"\bimport diffusers\b|\bfrom diffusers\b",
    "StableDiffusion": r"StableDiffusion",
    ".pipeline.": r"\.pipeline\.",
    ".unet": r"\.unet\b",
    "alphas_cumprod": r"alphas_cumprod",
    "attn1, attn2": r"\battn[12]\b",
}
BUILT_IN = r"\bis_built_in\b|\bbuilt_in\s*="
BUILT_IN_ROOMS = ("testbeds/emoji/training/",)  # there "built in" means glyphs of the font

#: Training the built-in model is no part of using it: only these may import it at the top of a file.
TRAINING = "testbeds.emoji.training"
TRAINING_USERS = (TRAINING, "cli")


class Import(NamedTuple):
    """One import of one module of the package by another."""

    importer: str  # dotted, without "sgrace."
    imported: str
    line: int
    inside: bool  # a function


class House(NamedTuple):
    """The modules of a package and their imports of each other."""

    folder: Path
    modules: dict[str, Path]
    imports: list[Import]

    @classmethod
    def of(cls, folder: Path) -> House:
        modules = {_module(path.relative_to(folder)): path for path in sorted(folder.rglob("*.py"))}
        imports: list[Import] = []
        for name in modules:
            imports += _imports(folder.name, modules, name)
        return cls(folder, modules, imports)

    def edges(self) -> dict[str, set[str]]:
        """Module -> modules that it imports."""
        graph: dict[str, set[str]] = {name: set() for name in self.modules}
        for found in self.imports:
            if found.importer != found.imported:
                graph[found.importer].add(found.imported)
        return graph

    def rooms(self) -> dict[str, set[str]]:
        """Room -> rooms that it imports."""
        graph: dict[str, set[str]] = {room(name): set() for name in self.modules}
        for found in self.imports:
            if room(found.importer) != room(found.imported):
                graph[room(found.importer)].add(room(found.imported))
        return graph

    def where(self, found: Import) -> str:
        """The import as a line of a report."""
        path = self.modules[found.importer].relative_to(self.folder)
        return f"{path}:{found.line} imports {found.imported}"


def _module(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


def _imports(package: str, modules: dict[str, Path], name: str) -> Iterator[Import]:
    """Every import of the package's own modules in one module; names of a module count as the module."""
    path = modules[name]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inner = {node for function in functions for node in ast.walk(function)}
    here = [] if name == "__init__" else name.split(".")
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        wanted = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            up = node.level - (path.name == "__init__.py")  # folders to climb from `here`
            base = [package, *here[: len(here) - up]] if node.level else []
            home = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            wanted = [f"{home}.{alias.name}" for alias in node.names]
        for full in wanted:
            head, _, inside = full.partition(".")
            if head == package:
                yield Import(name, _resolved(modules, inside), node.lineno, node in inner)


def _resolved(modules: dict[str, Path], dotted: str) -> str:
    """The module that a dotted path is, or is a name of; the package's own ``__init__`` where no other is."""
    while dotted and dotted not in modules:
        dotted = dotted.rpartition(".")[0]
    return dotted or "__init__"


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach each other."""
    reach: dict[str, set[str]] = {}
    for start, first in graph.items():
        seen: set[str] = set()
        waiting = list(first)
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                waiting += graph[node]
        reach[start] = seen
    groups = {frozenset(b for b in reach[a] if a in reach[b]) for a in graph if a in reach[a]}
    return sorted(sorted(group) for group in groups)


def level(name: str) -> int:
    return next(i for i, rooms in enumerate(LEVELS) if name in rooms)


def arrows_up(house: House) -> list[str]:
    """Imports of a higher room or of a sibling, and imports that are forbidden by name."""
    known = set().union(*LEVELS)
    wrong = []
    for found in house.imports:
        lower, upper = room(found.imported), room(found.importer)
        placed = lower != upper and {lower, upper} <= known
        if placed and (level(lower) >= level(upper) or lower in FORBIDDEN.get(upper, set())):
            wrong.append(house.where(found))
    return wrong


def uses(house: House, pattern: str, excepted: tuple[str, ...] = ()) -> list[str]:
    """Lines of code, without comments and docstrings, that hold a pattern."""
    found = []
    for path in house.modules.values():
        name = path.relative_to(house.folder).as_posix()
        text = path.read_text(encoding="utf-8")
        prose = _docstring_lines(ast.parse(text))
        for number, line in enumerate(text.splitlines(), 1):
            code = re.sub(r"(^|\s)#.*", "", line)
            if number not in prose and re.search(pattern, code):
                found.append(f"{name}:{number} {code.strip()}")
    return [line for line in found if not line.startswith(excepted)]


def _docstring_lines(tree: ast.Module) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def training_imports(house: House) -> list[str]:
    """Imports of the training rooms at the top of a file that should not load them."""
    found = [one for one in house.imports if one.imported.startswith(TRAINING) and not one.inside]
    return [house.where(one) for one in found if not one.importer.startswith(TRAINING_USERS)]


def report(house: House) -> str:
    """The graph of the rooms as text."""
    rooms = house.rooms()
    order = [name for names in LEVELS for name in sorted(names) if name in rooms]
    lines = [f"{len(house.modules)} modules, {len(house.imports)} imports, {len(rooms)} rooms"]
    for name in [*order, *sorted(rooms.keys() - set(order))]:
        mark = "" if name in order else "  (not in the order)"
        lines.append(f"{name:<12} -> {', '.join(sorted(rooms[name])) or '-'}{mark}")
    for title, groups in (("rooms", circles(rooms)), ("modules", circles(house.edges()))):
        lines += [f"circles of {title}: {len(groups)}", *(f"  {' <-> '.join(group)}" for group in groups)]
    checks = {"arrows up": arrows_up(house), "training imported": training_imports(house)}
    for word, pattern in DIFFUSERS_WORDS.items():
        checks[f"diffusers: {word}"] = uses(house, pattern, DIFFUSERS_ROOMS)
    checks["built-in branches"] = uses(house, BUILT_IN, BUILT_IN_ROOMS)
    for title, wrong in checks.items():
        lines += [f"{title}: {len(wrong)}", *(f"  {line}" for line in wrong)]
    return "\n".join(lines)


HOUSE = House.of(PACKAGE)
#: A check that does not hold yet. It must fail, so the mark goes when the check holds.


def none_of(offenders: list[str]) -> None:
    assert not offenders, f"{len(offenders)} offenders:\n" + "\n".join(offenders)


def test_every_room_has_its_place() -> None:
    none_of(sorted(HOUSE.rooms().keys() - set().union(*LEVELS)))


def test_no_arrow_up() -> None:
    none_of(arrows_up(HOUSE))


def test_no_circle_between_rooms() -> None:
    none_of([" <-> ".join(group) for group in circles(HOUSE.rooms())])


def test_no_circle_between_modules() -> None:
    none_of([" <-> ".join(group) for group in circles(HOUSE.edges())])


def test_training_is_loaded_only_by_itself_and_the_command_line() -> None:
    none_of(training_imports(HOUSE))


def test_only_the_command_line_starts_the_app_and_lazily() -> None:
    found = [i for i in HOUSE.imports if room(i.imported) == "app" and room(i.importer) != "app"]
    none_of([HOUSE.where(i) for i in found if room(i.importer) != "cli" or not i.inside])
    assert found


@pytest.mark.parametrize("word", DIFFUSERS_WORDS)
def test_only_families_name_attributes_of_diffusers(word: str) -> None:
    none_of(uses(HOUSE, DIFFUSERS_WORDS[word], DIFFUSERS_ROOMS))


def test_no_branch_for_the_built_in_model() -> None:
    none_of(uses(HOUSE, BUILT_IN, BUILT_IN_ROOMS))


def test_the_walk_sees_every_kind_of_import(tmp_path: Path) -> None:
    files = {
        "cli.py": "from . import api\n",
        "api.py": "def f():\n    from .models.base import Model\n",
        "models/__init__.py": "from .base import Model\n",
        "models/base.py": "if TYPE_CHECKING:\n    from ..api import f\n    import house.erasers.esd\n",
        "erasers/esd.py": "from .. import metrics\nfrom ..models import Model, base\n",
        "__init__.py": "",
        "metrics.py": "from . import nothing  # .unet in a comment\nx = model.unet\n",
    }
    for name, text in files.items():
        path = tmp_path / "house" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    house = House.of(tmp_path / "house")
    assert {(i.importer, i.imported, i.inside) for i in house.imports} == {
        ("cli", "api", False),
        ("api", "models.base", True),
        ("models", "models.base", False),
        ("models.base", "api", False),
        ("models.base", "erasers.esd", False),
        ("erasers.esd", "metrics", False),
        ("erasers.esd", "models", False),
        ("erasers.esd", "models.base", False),
        ("metrics", "__init__", False),
    }
    assert circles(house.rooms()) == [["api", "erasers", "models"]]
    assert circles(house.edges()) == [["api", "erasers.esd", "models", "models.base"]]
    assert len(arrows_up(house)) == 4
    assert uses(house, DIFFUSERS_WORDS[".unet"]) == ["metrics.py:2 x = model.unet"]


if __name__ == "__main__":
    print(report(House.of(Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE)))
