"""What an eraser changed, by component of the model, and the recipe that made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import torch
from torch import Tensor

from .._util import registry
from .._util.errors import InputError
from .._util.hub import HUB_ID, check_hub_id, downloaded, push
from .._util.notebook import card
from ..models import DiffusionModel
from ..models.adapters import KINDS
from ..models.guidance import Guidance
from ..models.origin import exists
from . import files
from .adapter import Adapter
from .card import title
from .composition import check_base, check_fit
from .parts import Parts
from .recipe import Recipe
from .text_folder import TextFolder


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Erasure(Parts):
    """What an eraser changed, and the recipe that made it.

    Attributes:
        recipe: method, settings, concepts with their words, base model, seed, cost and versions.
        tensors: changed tensors by component (``unet``, ``text_encoder``) and name; of a text encoder all.
        adapter: tensors beside the denoiser's, if there are any.
        guidance: what steers the model while it samples, if anything does; no weights can carry it.
        text: config and tokenizer of each changed text encoder, saved beside its weights.
        parents: erasures that the base model had already, in the order in which they were applied.
    """

    parents: tuple[Erasure, ...] = ()

    def __post_init__(self) -> None:
        """Lay the parents flat: those of a parent come before it, each of them once and without its own."""
        flat: list[Erasure] = []
        for parent in self.parents:
            for each in (*parent.parents, parent.alone()):
                if not any(each.same_as(known) for known in flat):
                    flat.append(each)
        object.__setattr__(self, "parents", tuple(flat))

    def __repr__(self) -> str:
        recipe = self.recipe
        return f"Erasure({recipe.method}: {self.names}; {self._changed()}; base {recipe.base.source})"

    def _repr_html_(self) -> str:
        recipe = self.recipe
        facts = {
            "method": f"{recipe.method}, preset {recipe.preset}" if recipe.preset else recipe.method,
            "changed": self._changed(),
            "base model": recipe.base.source,
            "seed": recipe.seed,
            "took": f"{recipe.seconds} s",
        }
        after = "erasure.apply(model) gives the safe model; sgrace.evaluate(erasure) says whether it holds."
        return card(f"Erasure of {self.names}", facts, notes=[after])

    def _changed(self) -> str:
        changed = [f"{len(tensors)} tensors of {name}" for name, tensors in self.tensors.items()]
        changed += (
            [] if self.adapter is None else [f"{self.adapter.kind} adapter of {self.adapter.component}"]
        )
        changed += [] if self.guidance is None else ["guidance"]
        changed += [f"on top of {parent.names}" for parent in self.parents]
        return ", ".join(changed)

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        model: DiffusionModel,
        tensors: Mapping[str, Mapping[str, Tensor]],
        adapter: Adapter | None = None,
        guidance: Guidance[Any] | None = None,
    ) -> Self:
        """The erasure of a model by a change; a text encoder that is there as a whole is saved as one.

        Args:
            recipe: its ``base`` is :func:`~sgrace.erasure.base_of` the same change.
            model: before erasing; its erasures are the parents.
            tensors: changed tensors by component and name.
            adapter: tensors beside the denoiser's.
            guidance: what steers the sampling.
        """
        changed = [encoder for encoder in model.text if encoder.component in tensors]
        whole = [
            e for e in changed if tensors[e.component].keys() >= dict(e.module.named_parameters()).keys()
        ]
        return cls(
            recipe=recipe,
            tensors=tensors,
            adapter=adapter,
            guidance=guidance,
            text={encoder.component: TextFolder.of(encoder) for encoder in whole},
            parents=tuple(model.erasures),
        )

    def alone(self) -> Erasure:
        """The same without its parents."""
        return replace(self, parents=()) if self.parents else self

    def apply(self, model: DiffusionModel, *, force: bool = False) -> DiffusionModel:
        """The model with the concept erased; the given one is untouched and shares all that is not changed.

        Parents that the model does not have yet are applied first. A model that has this one stays as it is.

        Args:
            model: the base model, or one with other erasures that do not touch the same tensors.
            force: apply it also to weights that it was not made on.

        Raises:
            InputError: it was made on other weights, would undo another erasure, or does not fit.
        """
        if any(self.same_as(carried) for carried in model.erasures):
            return model
        for n, parent in enumerate(self.parents):
            model = replace(parent, parents=self.parents[:n]).apply(model, force=force)
        check_fit(self, model)
        if not force:
            check_base(self, model, self.parents)
        erased = model.with_components(self.tensors)
        if self.adapter is not None:
            try:
                denoiser = KINDS[self.adapter.kind](erased.sites, self.adapter.tensors)
            except (AttributeError, KeyError, ValueError, RuntimeError) as error:
                raise InputError(
                    f"This erasure was made for another model: its adapters do not fit ({error})."
                ) from error
            erased = erased.replace(denoiser=denoiser)
        return erased.replace(guidance=self.guidance, erasures=(*model.erasures, self.alone()))

    def text_part(self) -> Erasure:
        """What it changes in text encoders alone; other models with such encoders can take it.

        Raises:
            InputError: it changes no text encoder.
        """
        if not self.text:
            changed = "the sampling" if self.guidance else ", ".join(sorted(self.components))
            raise InputError(
                f"{self.recipe.method} changes no text encoder but {changed}, which only the model has that "
                "it was made on; nothing of it can be put into another one."
            )
        parents = tuple(parent.text_part() for parent in self.parents if parent.text)
        tensors = {component: self.tensors[component] for component in self.text}
        return replace(self, tensors=tensors, adapter=None, guidance=None, parents=parents)

    def save_pretrained(
        self, folder: str | Path, *, small: bool = False, dtype: torch.dtype | None = None
    ) -> None:
        """Write what changed, by component, and last ``recipe.json`` with the digest of every file.

        A changed text encoder becomes a folder that transformers loads in the place of the original.

        Args:
            folder: it must not exist, or be empty.
            small: weights in int8, a quarter of the size, which only :meth:`from_pretrained` reads.
            dtype: precision of the weights; the base model's by default.

        Raises:
            InputError: the folder exists and is not empty, or cannot be written.
        """
        files.save(self, self.parents, Path(folder), small=small, dtype=dtype)

    def export(
        self,
        out: str | Path | None = None,
        format: str = "diffusers",  # noqa: A002  (as on the command line)
        *,
        base: DiffusionModel | str | None = None,
        push_to_hub: str | None = None,
        **options: Any,  # noqa: ANN401  (passed on)
    ) -> Any:  # noqa: ANN401  (of a room above)
        """Write the safe model as other programs read it, with a model card.

        Args:
            out: new folder; a ``.safetensors`` file where the format is one file.
            format: ``diffusers``, ``single-file``, ``lora`` ... as ``sgrace export --help`` lists them.
            base: the model before erasing, or its name; loaded as the recipe names it, if absent.
            push_to_hub: repository ``owner/name`` to which it goes in the place of ``out``.
            options: ``private``: make a new repository private; ``rank`` of a low-rank form; ``evaluation``:
                folder of an evaluation for the card; ``force``: apply it also to weights that it was not
                made on.

        Returns:
            :class:`~sgrace.export.base.Exported`: path, files and notes.

        Raises:
            InputError: the format cannot hold the model, or the path cannot be written.
        """
        exporter = registry.load("export", format.replace("-", "_"))()
        place = None if out is None else Path(out)
        return exporter.of([self], place, base, push_to_hub=push_to_hub, **options)

    def push_to_hub(self, repo_id: str, *, private: bool = False, small: bool = False) -> str:
        """Upload the erasure with its model card, with the key that the hub's own client finds.

        Args:
            repo_id: ``owner/name``; a repository that is not there is made.
            private: whether a new repository is.
            small: weights in int8.

        Returns:
            Address of the commit.

        Raises:
            InputError: there is no key, or the hub refuses.
        """
        check_hub_id(repo_id)
        with TemporaryDirectory() as home:
            self.save_pretrained(Path(home) / "erasure", small=small)
            recipes = [each.recipe for each in (*self.parents, self)]
            return push(Path(home) / "erasure", repo_id, private=private, message=title(recipes))

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Load a saved erasure.

        Args:
            folder: or ``owner/name`` of the hub.

        Raises:
            InputError: the folder is no erasure, a file differs from the recipe's, or weights are not usable.
        """
        from_hub = not exists(folder) and HUB_ID.fullmatch(str(folder)) is not None
        own, *parents = files.read(downloaded(str(folder)) if from_hub else Path(folder))
        return cls(**vars(own), parents=tuple(cls(**vars(parent)) for parent in parents))
