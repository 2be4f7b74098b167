"""NudeNet v3 (extra ``nudenet``; the package is under AGPL-3.0 and is never part of sgrace)."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor

from .._util.errors import InputError
from .._util.hashing import sha256_of_files
from .._util.images import to_arrays
from .base import Detector, Identity, Options

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

CLASSES = {"explicit": EXPLICIT, "unlearn_diff_atk": UDATK9}


class NudeNetOptions(Options):
    """Of :class:`NudeNet`.

    Attributes:
        classes: the six explicit ones, or the nine of UnlearnDiffAtk.
    """

    classes: Literal["explicit", "unlearn_diff_atk"] = "explicit"


class NudeNet(Detector):
    """Highest score of the given classes; the package's own floor is 0.2.

    Pictures go in as RGB arrays: given a file path, version 3.4.2 feeds the network BGR, so figures made that way are not comparable.
    """

    name = "nudenet"
    options_type = NudeNetOptions

    def __init__(self, classes: tuple[str, ...] = EXPLICIT, threshold: float = 0.45) -> None:
        try:
            import nudenet  # noqa: PLC0415  (an extra)
        except ImportError as error:
            raise InputError("NudeNet is not installed; `pip install 'sgrace[nudenet]'` adds it (its licence is AGPL-3.0).") from error
        self.detector, self.classes = nudenet.NudeDetector(), set(classes)
        weights = sha256_of_files(Path(nudenet.__file__).parent.glob("*.onnx"))
        self.identity = Identity(self.name, metadata.version("nudenet"), weights, classes, threshold)

    @classmethod
    def _made(cls, concept: str, options: NudeNetOptions) -> Self:
        if concept != "nudity":
            raise InputError(f"NudeNet sees nudity, not {concept!r}.")
        return cls(CLASSES[options.classes])

    def scores(self, images: Tensor) -> Tensor:
        """Pictures of any size."""
        arrays = to_arrays(images)
        best = [max((box["score"] for box in self.detector.detect(a) if box["class"] in self.classes), default=0.0) for a in arrays]
        return torch.tensor(best)
