"""What a study file says: which erasers, concepts, seeds and attacks are compared, on which models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema, model_validator

from .._util import registry
from .._util.errors import InputError, choices, unknown
from .._util.settings import Settings
from .._util.text import read_text, shown
from ..concept import Kind
from ..evaluation.suites import SUITES
from ..testbeds.base import PromptSet
from .paths import placed

MAX_BYTES = 2**20
#: Studies that a study may include, one in another.
MAX_DEPTH = 8
#: What stands for a concept's name in the names of files.
CONCEPT = "{concept}"
Reference = Literal["original", "gold"]
Precision = Literal["float32", "bfloat16", "float16"]
#: As every command takes it.
Seed = Annotated[int, Field(ge=0, lt=2**63)]

#: Settings are texts, as on the command line; YAML makes numbers of some.
Text = Annotated[
    str,
    BeforeValidator(lambda given: str(given) if isinstance(given, int | float) else given),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]


class EraserRow(Settings):
    """A method with its preset and settings."""

    eraser: str = Field(description="name of an eraser")
    preset: str | None = Field(None, description="its preset; the built-in model's or the default, if absent")
    settings: dict[str, Text] = Field(default_factory=dict, description="single settings")
    words: str | None = Field(
        None,
        description="word file that it erases with, where attacks and questions keep their own words; "
        "{concept} stands for the name",
    )

    def title(self, unnamed: str | None) -> str:
        """As a table names it; ``unnamed`` is a preset that it leaves out, as rows of the model mean it."""
        pairs = [f"{name}={value}" for name, value in self.settings.items()]
        if self.words is not None:
            # the folder of files that are named after concepts; a whole path would differ between machines
            file = Path(self.words)
            pairs.append(f"words={file.parent.name if CONCEPT in file.stem else file.stem}")
        name = self.eraser if self.preset in {None, unnamed} else f"{self.eraser}, {self.preset}"
        return f"{name} ({', '.join(pairs)})" if pairs else name


def _row(given: object) -> object:
    """``NAME[:PRESET]`` as a row."""
    if not isinstance(given, str):
        return given
    name, _, preset = given.partition(":")
    return {"eraser": name, "preset": preset or None}


Row = Annotated[EraserRow, BeforeValidator(_row)]


class Matrix(Settings):
    """Every eraser on every concept with every seed, and what is measured of it."""

    model: str = Field("emoji", description="name of the model, as `--model` takes it")
    erased_on: str | None = Field(
        None,
        description="another model, from which the erasers erase; `model` gets their text encoders alone",
    )
    dtype: Precision = Field(
        "float32",
        description="precision of the frozen networks, the same on every device",
    )
    concepts: tuple[str, ...] = Field(min_length=1, description="names of concepts that the model knows")
    erasers: tuple[Row, ...] = Field((), description="NAME[:PRESET], or a mapping with settings")
    references: tuple[Reference, ...] = Field(
        (), description="models that stand beside the erasers: the original, and gold where there is one"
    )
    seeds: tuple[Seed, ...] = Field((0,), min_length=1, description="of erasing")
    suite: str = Field("standard", description="how much is measured: smoke, quick, standard or full")
    prompt_set: PromptSet = Field(
        "test", description="of prompts and questions: settings are chosen on `validation`, tables use `test`"
    )
    attacks: tuple[str, ...] = Field((), description="in the place of the suite's")
    every_prompt: bool = Field(
        default=False,
        description="attack prompts too that show the concept as they are, and count what the attack's own "
        "candidates show: this tests attacks, not erasers",
    )
    training_samples: bool = Field(
        default=False,
        description="measure too how the adversarial samples that erasers train on cover the concept",
    )
    attack_seed: Seed = Field(0, description="of the attacks")
    kind: Kind | None = Field(None, description="of the concepts, where the model does not know it")
    prompts: str | None = Field(
        None, description="prompt table in the place of the model's own; {concept} stands for the name"
    )
    words: str | None = Field(
        None, description="word file in the place of the model's own; {concept} stands for the name"
    )
    detector: str | None = Field(None, description="name of a detector in the place of the model's own")
    detector_settings: dict[str, Text] = Field(default_factory=dict, description="its options")

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.suite not in SUITES:
            raise unknown("suite", self.suite, SUITES)
        for name in self.attacks:
            registry.load("attacks", name)
        for row in self.erasers:
            registry.load("erasers", row.eraser)
        if not self.erasers and not self.references:
            raise InputError("A study compares nothing without erasers or references.")
        if self.model not in registry.names("testbeds") and not (self.prompts and self.detector):
            raise InputError(
                f"The model {self.model[:60]!r} brings no prompts and no detector; a study of it names both."
            )
        if self.erased_on == self.model:
            raise InputError(f"erased_on names another model than {self.model[:60]!r}, or none.")
        if self.training_samples and self.model not in registry.names("testbeds") and not self.words:
            raise InputError(
                f"The model {self.model[:60]!r} brings no words, which mark the concept's space for "
                "training_samples; name a word file."
            )
        if self.prompt_set != "test" and (self.prompts or self.model not in registry.names("testbeds")):
            raise InputError(
                f"prompt_set: {self.prompt_set} is a set of the model's own prompts; a study that names a "
                "prompt table has that alone, so name another table."
            )
        return self

    def file(self, field: Literal["prompts", "words"], concept: str) -> Path | None:
        """The prompt table or word file of a concept, if the study names any."""
        given: str | None = getattr(self, field)
        return None if given is None else file_of(given, concept)


def file_of(pattern: str, concept: str) -> Path:
    """The file of a concept."""
    return Path(pattern.replace(CONCEPT, concept.replace(" ", "-")))


class Study(Settings):
    """A study file.

    Fields of a matrix may stand at the top of the file: every matrix has them unless it has its own.
    """

    name: str = Field(description="of the study", pattern=r"^[\w -]{1,80}$")
    matrices: tuple[Matrix, ...] = Field(min_length=1, description="what is compared")


def read_study(path: Path) -> Study:
    """A study from its YAML file; those that it includes come first.

    Raises:
        InputError: the file cannot be read, is no YAML, or says something that is unknown.
    """
    raw = _raw(path, ())
    try:
        return Study.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise _no_field(path, str(first["loc"][-1])) from error
        raise InputError(f"{shown(path)}: {place}: {_message(first)}.") from error


def _no_field(path: Path, name: str) -> InputError:
    fields = {*Study.model_fields, *Matrix.model_fields, "include"}
    return InputError(f"{shown(path)}: a study has no {name[:60]!r}; {choices(name, fields)}")


def _message(error: Any) -> str:  # noqa: ANN401  (of pydantic)
    return str(error["msg"]).removeprefix("Value error, ").rstrip(".")


def _raw(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """The content of a file, with included files and defaults in place."""
    text = read_text(path, "a study", MAX_BYTES)
    if path.resolve() in above or len(above) >= MAX_DEPTH:
        raise InputError(f"{shown(path)} includes itself, or studies are included too deeply.")
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError) as error:
        # the others are of values that look like a date or a number, or are said to be one, and are none
        why = str(error).partition("\n")[0][:80]
        raise InputError(f"{shown(path)} is not YAML ({why}).") from error
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise InputError(f"{shown(path)} is no study: it must be a mapping with a name and matrices.")
    given = dict(found)
    includes, matrices = given.pop("include", []), given.pop("matrices", [{}])
    shared = {name: given.pop(name) for name in Matrix.model_fields if name in given}
    if not isinstance(includes, list) or not isinstance(matrices, list):
        raise InputError(f"{shown(path)}: include and matrices must be lists.")
    for name in given.keys() - Study.model_fields:  # also of a file that is included, whose name is not kept
        raise _no_field(path, name)
    included: list[Any] = []
    for name in includes:
        if not isinstance(name, str):
            raise InputError(f"{shown(path)}: include must list names of files.")
        included += _raw(path.parent / name, (*above, path.resolve()))["matrices"]
    own = [placed({**shared, **each}, path.parent) if isinstance(each, dict) else each for each in matrices]
    # a study that only includes has no matrix of its own
    own = [] if includes and own == [{}] else own
    return {**given, "matrices": [*included, *own]}


def json_schema() -> dict[str, Any]:
    """The JSON schema of a study file: a matrix may stand at its top, or several in a list."""
    matrix = Matrix.model_json_schema()
    definitions = matrix.pop("$defs", {})
    fields = matrix["properties"]
    # a row may be a text, and what a matrix requires may stand above it
    fields["erasers"]["items"] = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/EraserRow"}]}
    own = {
        "name": Study.model_json_schema()["properties"]["name"],
        "include": {"type": "array", "items": {"type": "string"}, "description": "other study files"},
        "matrices": {
            "type": "array",
            "items": {"type": "object", "properties": fields, "additionalProperties": False},
            "description": "several matrices; fields above hold for all of them",
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Study",
        "description": "What `sgrace study` compares.",
        "type": "object",
        "properties": {**own, **fields},
        "required": ["name"],
        "additionalProperties": False,
        "$defs": definitions,
    }
