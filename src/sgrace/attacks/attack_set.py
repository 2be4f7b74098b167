"""What an attack leaves: candidates, verdicts and images, which another detector can score again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor

from .._util.errors import InputError
from .._util.files import write_json, write_text_atomically
from .._util.folders import new_folder
from .._util.hashing import sha256, sha256_of_json
from .._util.images import from_bytes, to_bytes
from .._util.notebook import Bar, card
from .._util.tensors import read_tensors, save_tensors_atomically
from .._util.text import json_text, read_json, read_text, shown
from ..concept import Concept
from ..detectors.base import Identity
from ..metrics.attack_success import AttackSuccess
from ._notebook import marked_first
from .scene import Prompt

Access = Literal["prompt", "query", "gradient", "weights"]
Unit = Literal["prompt", "start"]
MANIFEST, ATTEMPTS, TENSORS = "manifest.json", "attempts.jsonl", "tensors.safetensors"
MAX_ATTEMPTS_BYTES = 2**30
#: Names of tensors in version 1 and now.
VERSION_1 = {"pictures": "images", "states": "prompt_embeds"}
#: Attacks that had another name in earlier versions, by that name.
RENAMED = {"noise_probe": "completion"}
AttackName = Annotated[str, BeforeValidator(lambda name: RENAMED.get(name, name))]
#: Tensors of all prompts together (the learned words of ``concept_inversion``); others have one row a prompt.
SHARED = {"word"}


class Cost(BaseModel):
    """What a run spent, or the most that it may spend."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    denoiser_rows: int = Field(
        ge=0,
        validation_alias=AliasChoices("denoiser_rows", "unet_rows"),
        description="Samples through the denoiser, forward and backward.",
    )
    text_encoder_rows: int = Field(
        ge=0, description="Samples through the text encoder, forward and backward."
    )
    seconds: Annotated[float, BeforeValidator(lambda given: math.inf if given is None else given)] = Field(
        ge=0, description="Wall-clock time; null in JSON where it has no limit."
    )


class Start(BaseModel):
    """One start of an attack that learns one thing for all prompts: one observation.

    ``word`` is the token that it started from. ``learned_from`` is the prompt whose images it learned from;
    empty for those of all prompts. Its last state showed the concept in ``hits`` of ``n`` images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    word: str
    learned_from: str = ""
    hits: int = Field(ge=0)
    n: int = Field(gt=0)

    @staticmethod
    def in_words(starts: Sequence[Start], note: str) -> str:
        """What each start found and what the figures rest on; empty where there is nothing to say."""
        found = ", ".join(f"{start.word} {start.hits}" for start in starts)
        told = (
            f"worst of {len(starts)} starts, hits of {starts[0].n} by start word: {found}" if starts else ""
        )
        return "; ".join(part for part in (told, note) if part)


class Manifest(BaseModel):
    """How an attack set came about. Version 1 lacks ``schema_version`` and says ``unet_rows``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[2] = Field(2, description="Version of this layout.")
    attack: AttackName = Field(description="Name of the attack; names of earlier versions are read too.")
    access: Access = Field(description="What the attack needs of the target.")
    paper: str = Field(description="Where the attack comes from.")
    config: dict[str, Any] = Field(description="Settings of the attack.")
    concept: Concept = Field(description="What the attack wants to bring back.")
    target: str = Field(description="Source of the model under attack.")
    detector: Identity = Field(description="Everything that decides the detector's verdicts.")
    num_inference_steps: int = Field(gt=0, description="Sampling steps of every image that is checked.")
    guidance_scale: float = Field(allow_inf_nan=False, description="Guidance of prompts without their own.")
    protocol: str = Field(description="Which prompts are attacked.")
    left_alone: int = Field(ge=0, description="Prompts that the protocol does not attack.")
    truncated_prompts: int | None = Field(
        None,
        ge=0,
        description="Prompts that the text encoder does not read to their end; null if not counted.",
    )
    seed: int = Field(description="Seed of the attack.")
    budget: Cost = Field(description="The most that the run was allowed to spend.")
    spent: Cost = Field(description="What the run spent.")
    unit: Unit = Field("prompt", description="What counts as one observation: a prompt, or a start.")
    starts: tuple[Start, ...] = Field((), description="What each start found, where a start is the unit.")
    note: str = Field("", description="What the figures rest on beside the settings, in words.")
    stopped: Literal["finished", "budget"] = Field(description="Why the run ended.")


@dataclass
class Attempt:
    """What came out for one prompt.

    Attributes:
        prompt, seed: row of the prompt table.
        pre, pre_score: verdict and score of the plain prompt's image.
        success: a candidate of the attack shows the concept.
        score: score of the kept candidate (the first success, else the best), else of the plain prompt.
        candidate: the kept candidate as text, where it is text.
        survived: the candidate's text is tokenized to the candidate's tokens; None where it is no text.
        checks: candidates drawn and judged: more checks are more chances, so they belong to the protocol.
    """

    prompt: str
    seed: int
    pre: bool = False
    pre_score: float = 0.0
    success: bool = False
    score: float = 0.0
    candidate: str | None = None
    survived: bool | None = None
    checks: int = 0


@dataclass(repr=False)
class AttackSet:
    """All attempts of one attack on one model; of its worst start, where a start is the unit.

    Attributes:
        attempts: one per prompt.
        tensors: what makes the kept images again, one row a prompt: prompt embeddings of candidates that are
            no text, and the initial noise where the attack chose it.
        images: of the kept candidates, else of the plain prompts: ``(n, 3, height, width)`` in -1..1.
        record: how the set came about.
    """

    attempts: list[Attempt]
    tensors: dict[str, Tensor]
    images: Tensor
    record: Manifest

    def __repr__(self) -> str:
        where = f"{self.record.attack} on {self.record.concept.name!r}"
        found = self.success.union
        return f"AttackSet({where}: {found.hits} of {found.n} prompts succeed, {self.record.stopped})"

    def _repr_html_(self) -> str:
        record = self.record
        alts = [attempt.candidate or attempt.prompt for attempt in self.attempts]
        return card(
            f"Attack {record.attack} on {record.concept.name!r}",
            {"target": record.target, "needs": record.access, "detector": record.detector.name},
            bars=[Bar.of("shows the concept", self.success.union)],
            images=marked_first(self.images, self.shown, alts, hide=record.concept.blurred),
            notes=["A red frame: the detector sees the concept. What may be harmful is blurred."],
        )

    @property
    def success(self) -> AttackSuccess:
        """Counts over the prompt table, or over the images of the worst start."""
        pre = [a.pre for a in self.attempts]
        post = [a.success for a in self.attempts]
        if self.record.unit == "prompt":
            return AttackSuccess.of(pre, post)
        return AttackSuccess.of_starts(pre, post, max(1, len(self.record.starts)))

    @property
    def shown(self) -> list[bool]:
        """Whether each prompt shows the concept, as it is or attacked; of starts, each image of the worst."""
        by_prompt = self.record.unit == "prompt"
        return [a.success or (a.pre and by_prompt) for a in self.attempts]

    @property
    def survival(self) -> float | None:
        """Share of text candidates whose tokens come back from their text; None where there is none."""
        known = [a.survived for a in self.attempts if a.survived is not None]
        return sum(known) / len(known) if known else None

    def save_pretrained(self, folder: str | Path) -> None:
        """Write attempts, tensors and the manifest; the manifest comes last and holds the hashes.

        Raises:
            InputError: the folder exists and is not empty, or cannot be written, or a score is not a number.
        """
        for attempt in self.attempts:
            if not math.isfinite(attempt.score + attempt.pre_score):
                raise InputError(f"The detector gives no number for the images of {attempt.prompt[:60]!r}.")
        with new_folder(Path(folder)) as partial:
            # images as bytes take a quarter of the space of floats
            save_tensors_atomically(partial / TENSORS, {**self.tensors, "images": to_bytes(self.images)})
            lines = [json_text(asdict(attempt), indent=None) for attempt in self.attempts]
            write_text_atomically(partial / ATTEMPTS, "\n".join(lines) + "\n")
            record = self.record.model_dump()
            hashes = {name: sha256(partial / name) for name in (ATTEMPTS, TENSORS)}
            write_json(partial / MANIFEST, {**record, "sha256": {**hashes, MANIFEST: sha256_of_json(record)}})

    @classmethod
    def from_pretrained(cls, folder: str | Path, prompts: Sequence[Prompt] | None = None) -> Self:
        """Load a saved set.

        Args:
            folder: as :meth:`save_pretrained` wrote it.
            prompts: the prompt table that the set must be of, where it is known.

        Raises:
            InputError: the folder is no attack set, a file is not the one that the manifest names, the files
                do not fit each other, or the set is of other prompts.
        """
        path = Path(folder)
        record = _manifest(path)
        attempts = _attempts(path)
        tensors, _ = read_tensors(path / TENSORS)
        tensors = {VERSION_1.get(name, name): value for name, value in tensors.items()}
        images = tensors.pop("images", None)
        if images is None:
            raise InputError(f"{shown(path / TENSORS)} does not hold the images of the prompts.")
        _check_fit(path, attempts, tensors, images)
        given = None if prompts is None else [(p.text, p.seed) for p in prompts]
        if given is not None and given != [(a.prompt, a.seed) for a in attempts]:
            raise InputError(f"{shown(path)} is of other prompts than this run; name a new folder.")
        return cls(attempts, tensors, from_bytes(images), record)


def folder_of(sets: Path, attack: str) -> Path:
    """Folder of an attack's set among others; a set of an earlier version has the attack's name of then."""
    names = [attack, *(old for old, new in RENAMED.items() if new == attack)]
    return next((sets / name for name in names if (sets / name).is_dir()), sets / attack)


def _manifest(path: Path) -> Manifest:
    """The manifest of a folder whose files are the ones that it names."""
    if missing := [name for name in (MANIFEST, ATTEMPTS, TENSORS) if not (path / name).is_file()]:
        raise InputError(f"{shown(path)} is not an attack set: it has no {missing[0]}.")
    record = read_json(path / MANIFEST)
    if not isinstance(record, dict) or not isinstance(record.get("sha256"), dict):
        raise InputError(f"{shown(path / MANIFEST)} is no manifest of an attack set.")
    named = record.pop("sha256")
    found = {name: sha256(path / name) for name in (ATTEMPTS, TENSORS)}
    version = record.get("schema_version", 1)
    if version != 1:  # version 1 did not hash the manifest
        found[MANIFEST] = sha256_of_json(record)
    if named != found:
        message = "differ from the ones that its manifest names: they were changed or damaged."
        raise InputError(f"The files in {shown(path)} {message}")
    try:
        return Manifest.model_validate({**record, "schema_version": 2 if version == 1 else version})
    except ValidationError as error:
        raise InputError(f"{shown(path / MANIFEST)} is not a valid manifest: {_first(error)}.") from error


def _attempts(path: Path) -> list[Attempt]:
    lines = read_text(path / ATTEMPTS, "the attempts of an attack", MAX_ATTEMPTS_BYTES).splitlines()
    try:
        return TypeAdapter(list[Attempt]).validate_json(f"[{','.join(lines)}]", strict=True)
    except ValidationError as error:
        raise InputError(f"{shown(path / ATTEMPTS)} is damaged: {_first(error)}.") from error


def _check_fit(
    path: Path, attempts: Sequence[Attempt], tensors: Mapping[str, Tensor], images: Tensor
) -> None:
    """One attempt, one image and one row of each tensor for every prompt."""
    n = len(attempts)
    if not n:
        raise InputError(f"{shown(path / ATTEMPTS)} holds no attempt.")
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"{shown(path / TENSORS)} does not hold one RGB image a prompt, as bytes.")
    rows = {
        "images": len(images),
        **{name: _rows(value) for name, value in tensors.items() if name not in SHARED},
    }
    for name, length in rows.items():
        if length != n:
            raise InputError(f"{shown(path)} is not complete: {n} attempts, but {length} rows of {name}.")
    if wrong := [i for i, a in enumerate(attempts) if a.checks < 0 or (a.success and not a.checks)]:
        raise InputError(f"Attempt {wrong[0]} in {shown(path)} contradicts itself: success without a check.")


def _rows(value: Tensor) -> int:
    # a scalar has no rows
    return len(value) if value.ndim else 0


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
