"""The plan of a study: the cells that it asks for, and what each needs."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from .._util import registry
from .._util.errors import InputError
from .._util.hashing import sha256_of_json
from ..concept import Concept
from ..evaluation.suites import SUITES
from ..testbeds.scenes import check_prompt_set
from .cell import Cell, CellKind
from .code import code_sha256
from .inputs import digest, gold_sha256, load, model_sha256, model_title, place_sha256, testbed_of
from .schema import EraserRow, Matrix, Study, file_of

#: What every cell runs.
COMMON = ("concept", "models", "testbeds.loading", "testbeds.scenes")
#: Preset of settings that were chosen on the models that testbeds bring.
CHOSEN = "emoji"
#: Fields of a scoring that neither the title of its row nor the name of its table tells.
UNTOLD = {"code", "words", "words_file", "prompts_file", "detector_places"}


def cells_of(study: Study) -> list[Cell]:
    """All cells of a study, each once, and each behind those that it needs."""
    found: dict[str, Cell] = {}
    for score in scores_of(study):
        for cell in (*inputs_of(score), score):
            found.setdefault(cell.id, cell)
    return list(found.values())


def scores_of(study: Study) -> list[Cell]:
    """The scoring of each eraser and reference on each concept with each seed: the rows of the tables.

    Raises:
        InputError: two of them would stand in one row of a table, as if they were alike.
    """
    found = {cell.id: cell for matrix in study.matrices for cell in _of_matrix(matrix)}
    rows: set[str] = set()
    for cell in found.values():
        row = sha256_of_json({name: value for name, value in cell.config.items() if name not in UNTOLD})
        if row in rows:
            raise InputError(
                f"Two different rows would both be called {cell.title[:100]!r}; name their files so that the "
                "titles differ, or write two studies."
            )
        rows.add(row)
    return list(found.values())


def inputs_of(cell: Cell) -> Iterator[Cell]:
    """All cells that a cell needs, each behind those that it needs itself; some may come twice."""
    for each in cell.needs.values():
        yield from inputs_of(each)
        yield each


def _of_matrix(matrix: Matrix) -> Iterator[Cell]:
    testbed = testbed_of(matrix.model)
    if testbed:
        check_prompt_set(testbed, matrix.prompt_set)
    for name in matrix.concepts:
        concept = testbed.resolve(name, matrix.kind) if testbed else Concept.parse(name, matrix.kind)
        for reference in matrix.references:
            if reference == "gold" and not (testbed and testbed.gold(concept)):
                continue
            yield _Maker(matrix, concept, reference).score()
        for row in matrix.erasers:
            for seed in matrix.seeds:
                yield _Maker(matrix, concept, "erased", row, seed).score()


@dataclass(frozen=True)
class _Maker:
    """Makes the cells of one row of a table: of one target."""

    matrix: Matrix
    concept: Concept
    target: Literal["erased", "original", "gold"]
    row: EraserRow | None = None
    seed: int = 0

    @property
    def own_preset(self) -> str | None:
        """The preset of the model from which is erased; None where no testbed brings it."""
        return CHOSEN if testbed_of(self.matrix.erased_on or self.matrix.model) else None

    @property
    def row_title(self) -> str:
        return self.target if self.row is None else self.row.title(self.own_preset)

    @property
    def title(self) -> str:
        return f"{self.row_title}, {self.concept.name}" + (f", seed {self.seed}" if self.row else "")

    def config(
        self,
        kind: CellKind,
        code: tuple[str, ...],
        files: tuple[Literal["prompts", "words"], ...] = (),
        *,
        model: str | None = None,
        **more: Any,  # noqa: ANN401  (JSON)
    ) -> dict[str, Any]:
        """What every cell's configuration has."""
        model = model or self.matrix.model
        return {
            "model": model,
            "weights": model_sha256(model),
            "dtype": self.matrix.dtype,
            "concept": self.concept.model_dump(),
            "code": code_sha256(*COMMON, f"study.make.{kind}", *_module_of("testbeds", model), *code),
            **self._files(*files),
            **({"gold": gold_sha256(model, self.concept)} if more.get("target") == "gold" else {}),
            **more,
        }

    def _files(self, *fields: Literal["prompts", "words"]) -> dict[str, Any]:
        """Files that the study names in the place of what the model brings, with their digests."""
        found: dict[str, Any] = {}
        for name in fields:
            file = self.matrix.file(name, self.concept.name)
            if file is not None:
                found |= digest(name, file)
        return found

    @functools.cached_property
    def erasure(self) -> dict[str, Cell]:
        """The erasure that the target needs; none for a reference."""
        if self.row is None:
            return {}
        plugin = load("erasers", self.row.eraser)
        own_preset = self.own_preset if self.own_preset in plugin.presets else None
        preset = self.row.preset or own_preset or plugin.default_preset
        settings = plugin.preset(preset, self.concept.template_kind, self.row.settings).config
        own = {} if self.row.words is None else digest("words", file_of(self.row.words, self.concept.name))
        config = self.config(
            "erasure",
            _module_of("erasers", self.row.eraser),
            ("words",),
            **own,
            model=self.matrix.erased_on,
            eraser=self.row.eraser,
            preset=preset,
            settings=self.row.settings,
            resolved=settings.model_dump(mode="json"),
            seed=self.seed,
        )
        return {"erasure": Cell("erasure", self.title, config)}

    def attack(self, name: str, control: str | None = None) -> Cell:
        """An attack on the target, or on a control of it."""
        suite = SUITES[self.matrix.suite]
        # the model before erasing is the same control for all targets
        target = "original" if control == "original" else self.target
        config = self.config(
            "attack",
            (*_module_of("attacks", name), "detectors"),
            ("words", "prompts"),
            **self._detector(),
            target=target,
            attack=name,
            effort=suite.effort,
            resolved=load("attacks", name).preset(suite.effort).config.model_dump(mode="json"),
            n_prompts=suite.n_prompts,
            prompt_set=self.matrix.prompt_set,
            seed=self.matrix.attack_seed,
            control=control,
            # there is nothing of its own in prompts as they are
            every_prompt=control is not None or (self.matrix.every_prompt and name != "none"),
        )
        needs = {} if target == "original" else dict(self.erasure)
        where = f" on {control.replace('_', ' ')}" if control else ""
        return Cell("attack", f"{name}{where}: {self.title}", config, needs)

    def _detector(self) -> dict[str, Any]:
        """The detector; of what its settings name on this machine, the content counts and not the place."""
        given = self.matrix.detector_settings
        digests = {name: found for name, value in given.items() if (found := place_sha256(value))}
        places = {"detector_places": {name: given[name] for name in digests}} if digests else {}
        return {"detector": self.matrix.detector, "detector_settings": {**given, **digests}, **places}

    def images(self, *, before: bool = False) -> Cell:
        """Images of the retention questions, by the target or by the model before erasing."""
        target = "original" if before else self.target
        config = self.config(
            "images",
            ("testbeds.questions",),
            target=target,
            n_images=SUITES[self.matrix.suite].n_images,
            prompt_set=self.matrix.prompt_set,
        )
        title = f"images: {'original' if before else self.title}, {self.concept.name}"
        return Cell("images", title, config, {} if before else dict(self.erasure))

    def space(self) -> Cell:
        """Where the samples that the eraser trained on lie; of a reference, the ceiling and the floor."""
        config = self.config(
            "space",
            ("evaluation.training_samples",),
            ("words",),
            target=self.target,
            seed=self.matrix.attack_seed,
        )
        return Cell("space", f"concept space: {self.title}", config, dict(self.erasure))

    def score(self) -> Cell:
        """Everything that is measured of the target."""
        suite = SUITES[self.matrix.suite]
        attacks = self.matrix.attacks or suite.attacks
        needs = dict(self.erasure)
        if testbed_of(self.matrix.model):  # it brings a judge of them
            needs |= {"before": self.images(before=True), "after": self.images()}
        if self.matrix.training_samples and self.target != "gold":
            needs["space"] = self.space()
        for name in attacks:
            needs[f"attacks/{name}"] = self.attack(name)
            if load("attacks", name).needs_control:
                needs[f"controls/{name}/original"] = self.attack(name, "original")
                needs[f"controls/{name}/random_denoiser"] = self.attack(name, "random_denoiser")
        config = self.config(
            "score",
            ("evaluation", "metrics", "detectors"),
            ("words", "prompts"),
            **self._detector(),
            target=self.target,
            suite=self.matrix.suite,
            prompt_set=self.matrix.prompt_set,
            attacks=list(attacks),
            every_prompt=self.matrix.every_prompt,
            seed=self.matrix.attack_seed,
            row=self.row_title,
            erased_on=self.matrix.erased_on and model_title(self.matrix.erased_on),
            erasing_seed=self.seed,
        )
        return Cell("score", self.title, config, needs)


@functools.cache
def _module_of(group: str, name: str) -> tuple[str, ...]:
    """The module of a plug-in, if it is one of this package."""
    if name not in registry.names(group):
        return ()
    module: str = load(group, name).__module__
    package, _, inner = module.partition(".")
    return (inner,) if package == "sgrace" else ()
