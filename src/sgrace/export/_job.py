"""What is exported: a model without a concept, and what is known of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ..erasure import Erasure
from ..erasure.card import facts
from ..erasure.recipe import Recipe
from ..models import DiffusionModel
from ..testbeds.loading import LoadOptions, load_base, load_model, read_erasure
from ._evaluated import evaluated

#: Rank of a low-rank form, and longest part of a file name that names concepts.
RANK, MAX_NAME = 64, 40


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is exported.

    Attributes:
        model: with the concepts erased.
        original: the model before erasing.
        evaluated: lines of the card about an evaluation of the model; none, if nobody gave one.
        rank: of a low-rank form.
    """

    model: DiffusionModel
    original: DiffusionModel
    evaluated: tuple[str, ...] = ()
    rank: int = RANK

    @classmethod
    def of(
        cls,
        erasures: Sequence[Erasure | Path],
        base: DiffusionModel | str | None = None,
        *,
        force: bool = False,
        evaluation: Path | None = None,
        rank: int = RANK,
        options: LoadOptions | None = None,
    ) -> Self:
        """What is exported of erasures, applied in this order.

        Args:
            erasures: erasures or their folders.
            base: the model before erasing, or its name; the first erasure's own, if absent.
            force: apply erasures also to weights that they were not made on.
            evaluation: folder of an evaluation of the model.
            rank: of a low-rank form.
            options: of :func:`~sgrace.testbeds.loading.load_model`. The precision is by default the one in
                which the concept was erased.

        Raises:
            InputError: something cannot be read, or an erasure does not fit.
        """
        found = [each if isinstance(each, Erasure) else read_erasure(each) for each in erasures]
        loading = LoadOptions(**(options or {}))
        if loading.get("dtype", "auto") == "auto":
            loading["dtype"] = found[0].recipe.base.dtype or "auto"
        folder = erasures[0] if isinstance(erasures[0], Path) else None
        if isinstance(base, DiffusionModel):
            original = base
        elif base is not None:
            original = load_model(base, **loading)
        else:
            original = load_base(found[0], folder, options=loading)
        model = original
        for erasure in found:
            model = erasure.apply(model, force=force)
        lines = () if evaluation is None else evaluated(evaluation, model)
        return cls(model=model, original=original, evaluated=lines, rank=rank)

    @property
    def recipes(self) -> list[Recipe]:
        """Of the erasures that were applied, in order."""
        return [erasure.recipe for erasure in self.model.erasures]

    @property
    def name(self) -> str:
        """Name of a file: ``without-church``."""
        concepts = " ".join(concept.name for recipe in self.recipes for concept in recipe.concepts)
        return "without-" + re.sub(r"[^a-z0-9]+", "-", concepts.lower()).strip("-")[:MAX_NAME].strip("-")

    @property
    def changed(self) -> frozenset[str]:
        """Components that an erasure has changed."""
        return frozenset(name for erasure in self.model.erasures for name in erasure.components)

    @property
    def facts(self) -> dict[str, str]:
        """What the header of an exported file says: method, concepts, base and version."""
        return {"format": "pt", **facts(self.recipes)}
