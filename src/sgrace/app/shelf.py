"""What a server offers: the built-in model, and what its owner named when starting it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from .. import api
from .._util.errors import unknown
from ..models import DiffusionModel
from ..models.origin import Origin, exists
from ..testbeds.loading import LoadOptions
from .judges import Judges

BUILT_IN = "emoji"


class Shelf:
    """Models by the label that pages know them by. No page can name another, and none sees a path.

    Args:
        models: by label.
        judges: detectors for models that bring none.
    """

    def __init__(self, models: Mapping[str, DiffusionModel], judges: Judges | None = None) -> None:
        self._models = dict(models)
        self.judges = judges or Judges()
        for model in self._models.values():
            model.set_progress_bar_config(disable=True)

    @classmethod
    def load(
        cls, names: Sequence[str] = (), options: LoadOptions | None = None, judges: Judges | None = None
    ) -> Self:
        """Load all models, so that what cannot be read is told before anybody comes.

        Args:
            names: of models for :func:`~sgrace.api.load_model`, beside the built-in one.
            options: how they are loaded; parts from elsewhere are those of the named models.
            judges: detectors for models that bring none.

        Raises:
            InputError: a model cannot be loaded.
        """
        how: Any = dict(options or {})
        plain: Any = {name: value for name, value in how.items() if name not in Origin.model_fields}
        models: dict[str, DiffusionModel] = {}
        for name in dict.fromkeys((*names, BUILT_IN)):
            model = api.load_model(name, **(plain if name == BUILT_IN else how))
            models[_label(name, models)] = model
        return cls(models, judges)

    @property
    def labels(self) -> list[str]:
        """Of all models, those of the owner first."""
        return list(self._models)

    def model(self, label: object) -> DiffusionModel:
        """The model of a label.

        Raises:
            InputError: there is none.
        """
        found = self._models.get(label) if isinstance(label, str) else None
        if found is None:
            raise unknown("model", str(label), self._models)
        return found


def _label(name: str, taken: Collection[str]) -> str:
    """The name, or the last part of a path; with a number where another model has it already."""
    short = Path(name).name if exists(name) else name
    same = sum(label == short or label.startswith(f"{short} (") for label in taken)
    return f"{short} ({same + 1})" if same else short
