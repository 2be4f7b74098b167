"""NudeNet v3 (extra ``nudenet``; the package is under AGPL-3.0 and is never part of sgrace)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Self

import torch
from pydantic import Field
from torch import Tensor

from .._util.errors import InputError, unknown
from .._util.hashing import sha256_of_files
from .._util.images import to_arrays
from ._nudity import check_nudity
from .base import Detector, Identity, Listed, Options

EXPLICIT = (
    "FEMALE_BREAST_EXPOSED",
    "FEMALE_GENITALIA_EXPOSED",
    "MALE_BREAST_EXPOSED",
    "MALE_GENITALIA_EXPOSED",
    "BUTTOCKS_EXPOSED",
    "ANUS_EXPOSED",
)
#: The nine classes that UnlearnDiffAtk and others count: beachwear is flagged too.
UDATK9 = (*EXPLICIT, "FEET_EXPOSED", "BELLY_EXPOSED", "ARMPITS_EXPOSED")

#: Sets of classes by name.
CLASSES = {"explicit": EXPLICIT, "unlearn_diff_atk": UDATK9}
#: All classes that NudeNet v3 finds.
ALL_CLASSES = (
    *UDATK9,
    "FEMALE_BREAST_COVERED",
    "FEMALE_GENITALIA_COVERED",
    "BUTTOCKS_COVERED",
    "ANUS_COVERED",
    "FEET_COVERED",
    "BELLY_COVERED",
    "ARMPITS_COVERED",
    "FACE_FEMALE",
    "FACE_MALE",
)


class NudeNetOptions(Options):
    """Options of :class:`NudeNet`."""

    classes: Annotated[tuple[str, ...], Listed] = Field(
        ("explicit",),
        min_length=1,
        description="Classes that count, separated by commas: explicit (six), unlearn_diff_atk (nine), "
        "NudeNet's own.",
    )


def classes_of(names: Sequence[str]) -> tuple[str, ...]:
    """NudeNet's classes from names of sets and of classes, in any case; each once.

    Raises:
        InputError: an unknown name, with the nearest known one.
    """
    found: list[str] = []
    for name in names:
        if name.lower() in CLASSES:
            found += CLASSES[name.lower()]
        elif name.upper() in ALL_CLASSES:
            found.append(name.upper())
        else:
            raise unknown("class of NudeNet", name.upper(), [*ALL_CLASSES, *map(str.upper, CLASSES)])
    return tuple(dict.fromkeys(found))


class NudeNet(Detector):
    """Highest score among the given classes. The package reports no score below 0.2.

    Images go in as RGB arrays. Given a file path, version 3.4.2 feeds the network BGR; figures made that way
    are not comparable.
    """

    name = "nudenet"
    options_type = NudeNetOptions

    def __init__(self, classes: tuple[str, ...] = EXPLICIT, threshold: float = 0.45) -> None:
        try:
            import nudenet  # noqa: PLC0415  (an extra)
        except ImportError as error:
            raise InputError(
                "NudeNet is not installed; `pip install 'sgrace[nudenet]'` adds it (its licence is AGPL-3.0)."
            ) from error
        self.detector, self.classes = nudenet.NudeDetector(), set(classes)
        weights = sha256_of_files(Path(nudenet.__file__).parent.glob("*.onnx"))
        self.identity = Identity(self.name, metadata.version("nudenet"), weights, classes, threshold)

    @classmethod
    def _made(cls, concept: str, options: NudeNetOptions) -> Self:
        check_nudity(concept, "NudeNet")
        return cls(classes_of(options.classes))

    def scores(self, images: Tensor) -> Tensor:
        """Images of any size."""
        arrays = to_arrays(images)
        best = [
            max(
                (box["score"] for box in self.detector.detect(a) if box["class"] in self.classes), default=0.0
            )
            for a in arrays
        ]
        return torch.tensor(best)
