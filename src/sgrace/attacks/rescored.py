"""What another detector says of the images of an attack set: stored beside the set, which stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from .._util.errors import InputError
from .._util.files import write_json
from .._util.hashing import sha256, sha256_of_json
from .._util.notebook import Bar, card
from ..detectors import Detector
from ..detectors.base import Identity
from ..metrics import Share
from .attack_set import MANIFEST, AttackName, AttackSet

FOLDER = "rescored"


class Rescored(BaseModel):
    """Two detectors' verdicts on the same images: those that an attack kept, one a prompt.

    The attack searched against the first detector and stopped where that one saw the concept: an attack
    against the second one may find more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = Field(1, description="Version of this layout.")
    attack: AttackName = Field(description="Name of the attack.")
    set_sha256: str = Field("", description="SHA-256 of the set's manifest, if it was read from a folder.")
    before: Identity = Field(description="The detector that the attack searched against.")
    detector: Identity = Field(description="The other detector.")
    starts: int | None = Field(
        None, description="Independent observations, where they are fewer than the images."
    )
    verdicts_before: tuple[bool, ...] = Field(description="Verdicts of the first detector.")
    verdicts: tuple[bool, ...] = Field(description="Verdicts of the other detector.")
    scores: tuple[float, ...] = Field(description="Scores of the other detector, in 0..1.")

    @classmethod
    def of(cls, attack_set: AttackSet, detector: Detector, folder: Path | None = None) -> Rescored:
        """Judge the images of a set; nothing is drawn.

        Args:
            attack_set: with its images.
            detector: of the set's concept.
            folder: where the set lies, if it does.
        """
        record = attack_set.record
        scores = detector.scores(attack_set.images)
        return cls(
            attack=record.attack,
            set_sha256="" if folder is None else sha256(folder / MANIFEST),
            before=record.detector,
            detector=detector.identity,
            starts=None if record.unit == "prompt" else max(1, len(record.starts)),
            verdicts_before=tuple(attack_set.shown),
            verdicts=tuple(detector.detect(scores).tolist()),
            scores=tuple(round(score, 6) for score in scores.tolist()),
        )

    def __repr__(self) -> str:
        names = f"{self.before.name} {self.share_before.hits}, {self.detector.name} {self.share.hits}"
        return f"Rescored({self.attack}: {names} of {len(self.verdicts)} images)"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        shares = {self.before.name: self.share_before, self.detector.name: self.share}
        bars = [Bar.of(f"seen by {name}", share) for name, share in shares.items()]
        facts = {"same verdict": f"{self.agree} of {len(self.verdicts)} images"}
        return card(f"Images of {self.attack}, judged by another detector", facts, bars=bars)

    @property
    def share_before(self) -> Share:
        """Images in which the first detector sees the concept."""
        return Share(sum(self.verdicts_before), len(self.verdicts), self.starts)

    @property
    def share(self) -> Share:
        """Images in which the other detector sees it."""
        return Share(sum(self.verdicts), len(self.verdicts), self.starts)

    @property
    def agree(self) -> int:
        """Images on which both say the same."""
        return sum(a == b for a, b in zip(self.verdicts_before, self.verdicts, strict=True))

    def save_in(self, folder: Path) -> Path:
        """Write it beside a set, under the name and the identity of its detector.

        Raises:
            InputError: the folder cannot be written.
        """
        known = sha256_of_json([self.set_sha256, self.detector.__dict__])[:8]
        file = folder / FOLDER / f"{self.detector.name}-{known}.json"
        try:
            file.parent.mkdir(exist_ok=True)
            write_json(file, self.model_dump(mode="json"))
        except OSError as error:
            raise InputError(f"Cannot write {file}: {error.strerror}.") from error
        return file
