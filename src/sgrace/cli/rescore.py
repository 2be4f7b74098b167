"""``sgrace rescore``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .._util import registry
from .._util.errors import InputError
from .._util.text import shown
from .options import FILE, JSON, detector_options, examples
from .types import DetectorName

if TYPE_CHECKING:
    from ..attacks import AttackSet
    from ..detectors import Detector

EPILOG = examples(
    "sgrace rescore sets --detector clip_zero_shot --detector-set threshold=0.8",
    "sgrace rescore sets/pez --detector nudenet --json",
)


@click.command(epilog=EPILOG)
@click.argument("folder", type=FILE)
@click.option("--detector", "name", required=True, type=DetectorName(), help="Name of the other detector.")
@click.option(
    "--detector-set",
    "pairs",
    multiple=True,
    metavar="KEY=VALUE",
    help="One option of the detector; may be repeated.",
)
@JSON
def rescore(*, folder: Path, name: str, pairs: tuple[str, ...], as_json: bool) -> None:
    """Score the images of attack sets with another detector.

    FOLDER is an attack set, or a folder of them such as `sgrace attack` and `sgrace evaluate` write. Each
    prompt counts by the image that the attack kept.
    """
    options = detector_options(name, pairs)
    folders = _sets_in(folder)

    from ..attacks import AttackSet  # noqa: PLC0415  (torch takes seconds to import)

    rows = []
    for path in folders:
        found = AttackSet.from_pretrained(path)
        rows.append(_row(found, _detector(found, name, options)))
    if as_json:
        click.echo(json.dumps({"folder": str(folder), "attacks": rows}))
        return
    for row in rows:
        before = f"{row['before']['hits']} of {row['before']['n']}"
        after = f"{row['after']['hits']} of {row['after']['n']}"
        click.echo(f"{row['attack']:18s} {row['detector_before']}: {before}   {row['detector']}: {after}")


def _sets_in(folder: Path) -> list[Path]:
    """The attack set itself, or those within.

    Raises:
        InputError: there is none.
    """
    try:
        places = [folder, *sorted(folder.glob("*")), *sorted(folder.glob("attacks/*"))]
        found = [place for place in places if (place / "manifest.json").is_file()]
    except OSError as error:  # a name that is too long, or no permission
        raise InputError(f"Cannot read {shown(folder)}: {error.strerror}.") from error
    if not found:
        raise InputError(f"{shown(folder)} holds no attack set; name a folder that `sgrace attack` wrote.")
    return found


def _detector(found: AttackSet, name: str, options: dict[str, str]) -> Detector:
    """The detector of the set's concept; a testbed that the target comes from has its own."""
    from ..testbeds.files import FileTestbed  # noqa: PLC0415  (torch takes seconds to import)

    # the name alone, without what was loaded beside it
    source = found.record.target.partition(" with ")[0]
    testbed = registry.load("testbeds", source)() if source in registry.names("testbeds") else FileTestbed()
    detector: Detector = testbed.detector(found.record.concept, name, options)
    return detector


def _row(found: AttackSet, detector: Detector) -> dict[str, Any]:
    from ..metrics import Share  # noqa: PLC0415  (torch takes seconds to import)

    before = found.success.union
    verdicts = found.rescored(detector)
    after = Share(sum(verdicts), len(verdicts))
    return {
        "attack": found.record.attack,
        "detector_before": found.record.detector.name,
        "before": {"hits": before.hits, **before.as_dict()},
        "detector": detector.identity.name,
        "threshold": detector.identity.threshold,
        "after": {"hits": after.hits, **after.as_dict()},
    }
