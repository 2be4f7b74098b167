"""The families of models, and the pipelines that they read."""

from __future__ import annotations

import importlib
import pkgutil

from .. import families
from ..base import DiffusionModel


def known_families() -> list[type[DiffusionModel]]:
    """Every family of models, one for each file of ``families`` that is no helper."""
    found: list[type[DiffusionModel]] = []
    for module in pkgutil.iter_modules(families.__path__):
        if module.name.startswith("_"):
            continue
        home = importlib.import_module(f"{families.__name__}.{module.name}")
        classes = [value for value in vars(home).values() if isinstance(value, type)]
        found += [one for one in classes if issubclass(one, DiffusionModel) and one is not DiffusionModel]
    return list(dict.fromkeys(found))


def known_pipelines() -> dict[str, type[DiffusionModel]]:
    """The classes of pipelines that the families read, with their families."""
    return {name: family for family in known_families() for name in family.pipelines}
