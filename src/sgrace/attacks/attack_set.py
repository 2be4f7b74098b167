"""The artefact that an attack leaves: prompts or tensors, verdicts and pictures, hashed, and scored again without attacking again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .._util.errors import InputError
from .._util.files import new_folder
from .._util.images import from_bytes, to_bytes
from ..detectors import Detector
from ..metrics.attack_success import AttackSuccess

MANIFEST, ATTEMPTS, TENSORS = "manifest.json", "attempts.jsonl", "tensors.safetensors"


@dataclass
class Attempt:
    """What came out for one prompt.

    Attributes:
        prompt, seed: row of the prompt table.
        pre, pre_score: verdict and score of the plain prompt's picture.
        success: a candidate of the attack shows the concept.
        score: score of the kept candidate (the first success, else the best), or of the plain prompt if there is none.
        candidate: the kept candidate as text, where it is text.
        survived: the candidate's tokens came back when its text was tokenized again; None where it is no text.
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


@dataclass
class AttackSet:
    """All attempts of one attack on one model.

    Attributes:
        attempts: one per prompt.
        tensors: text states, and the initial noise where the attack chose it, that make the kept pictures again.
        pictures: of the kept candidates, of the plain prompts where there is none: ``(n, 3, height, width)`` in -1..1.
        record: attack, access, config, detector, seed, budget and what was spent, ready for JSON.
    """

    attempts: list[Attempt]
    tensors: dict[str, Tensor]
    pictures: Tensor
    record: dict[str, Any]

    @property
    def success(self) -> AttackSuccess:
        """Counts over the prompt table."""
        return AttackSuccess.of([a.pre for a in self.attempts], [a.success for a in self.attempts])

    @property
    def survival(self) -> float | None:
        """Share of text candidates whose tokens come back from their text; None where there is none."""
        known = [a.survived for a in self.attempts if a.survived is not None]
        return sum(known) / len(known) if known else None

    def rescored(self, detector: Detector) -> list[bool]:
        """Another detector's verdicts on the kept pictures."""
        verdicts: list[bool] = detector.detect(detector.scores(self.pictures)).tolist()
        return verdicts

    def save_pretrained(self, folder: str | Path) -> None:
        """Write attempts, tensors and the manifest; the manifest comes last and holds the hashes.

        Raises:
            InputError: the folder exists and is not empty, or cannot be written.
        """
        with new_folder(Path(folder)) as partial:
            pictures = to_bytes(self.pictures)
            save_file({**{k: v.contiguous() for k, v in self.tensors.items()}, "pictures": pictures}, partial / TENSORS)
            (partial / ATTEMPTS).write_text("".join(json.dumps(asdict(a)) + "\n" for a in self.attempts))
            hashes = {name: _hash(partial / name) for name in (ATTEMPTS, TENSORS)}
            (partial / MANIFEST).write_text(json.dumps({**self.record, "sha256": hashes}, indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Load a saved set.

        Raises:
            InputError: the folder is no attack set, or a file is not the one that the manifest names.
        """
        path = Path(folder)
        try:
            record: Mapping[str, Any] = json.loads((path / MANIFEST).read_text())
            found = {name: _hash(path / name) for name in (ATTEMPTS, TENSORS)}
            if found != record["sha256"]:
                raise InputError(f"The files in {path} differ from the ones that its manifest names: they were changed or damaged.")
            known = {f.name for f in fields(Attempt)}
            rows = [json.loads(line) for line in (path / ATTEMPTS).read_text().splitlines()]
            attempts = [Attempt(**{k: v for k, v in row.items() if k in known}) for row in rows]
            tensors = load_file(path / TENSORS)
            pictures = from_bytes(tensors.pop("pictures"))
        except (OSError, KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError, SafetensorError) as error:
            raise InputError(f"{path} is not an attack set: it needs {MANIFEST}, {ATTEMPTS} and {TENSORS}.") from error
        return cls(attempts, tensors, pictures, {k: v for k, v in record.items() if k != "sha256"})


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
