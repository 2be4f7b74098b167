"""Stored attack sets, judged by another detector."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .._util import registry
from .._util.errors import InputError
from .._util.text import shown
from ..attacks import AttackSet
from ..attacks.attack_set import MANIFEST
from ..attacks.rescored import Rescored
from ..detectors import Detector
from .files import FileTestbed


def rescore(
    folder: str | Path, detector: Detector | str, detector_options: Mapping[str, str] | None = None
) -> dict[str, Rescored]:
    """Judge the images of stored attack sets by another detector.

    Nothing is drawn: a set holds the image that the attack kept for each prompt. Each result is written
    beside its set, as ``rescored/DETECTOR-HASH.json``. The set stays as it is.

    Args:
        folder: an attack set, or a folder of them such as ``sgrace attack`` and ``sgrace evaluate`` write.
        detector: by name or as an object.
        detector_options: options of a detector that is given by name, as text.

    Returns:
        Results by the name of the set's folder, which is that of its attack.

    Raises:
        InputError: there is no attack set, one is damaged, or the detector does not know the concept.
    """
    found = {}
    for place in sets_in(Path(folder)):
        attack_set = AttackSet.from_pretrained(place)
        judge = detector
        if isinstance(judge, str):
            judge = _detector(attack_set, judge, detector_options or {})
        result = Rescored.of(attack_set, judge, place)
        result.save_in(place)
        found[place.name] = result
    return found


def sets_in(folder: Path) -> list[Path]:
    """The attack set itself, or those within.

    Raises:
        InputError: there is none.
    """
    try:
        places = [folder, *sorted(folder.glob("*")), *sorted(folder.glob("attacks/*"))]
        found = [place for place in places if (place / MANIFEST).is_file()]
    except OSError as error:  # a name that is too long, or no permission
        raise InputError(f"Cannot read {shown(folder)}: {error.strerror}.") from error
    if not found:
        raise InputError(f"{shown(folder)} holds no attack set; name a folder that `sgrace attack` wrote.")
    return found


def _detector(found: AttackSet, name: str, options: Mapping[str, str]) -> Detector:
    """The detector of the set's concept; a testbed that the target comes from has its own."""
    # the name alone, without what was loaded beside it
    source = found.record.target.partition(" with ")[0]
    testbed = registry.load("testbeds", source)() if source in registry.names("testbeds") else FileTestbed()
    detector: Detector = testbed.detector(found.record.concept, name, options)
    return detector
