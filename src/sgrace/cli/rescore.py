"""``sgrace rescore``, which is ``sgrace attack --rescore`` too."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import FILE, JSON, detector_options, examples
from .types import DetectorName

if TYPE_CHECKING:
    from ..attacks.rescored import Rescored

#: The option of ``sgrace attack`` that is this command.
OPTION = "--rescore"
EPILOG = examples(
    "sgrace rescore sets --detector clip_zero_shot --detector-set threshold=0.8",
    "sgrace attack --rescore nudenet sets/pez --json",
)
SEARCHED = (
    "The attacks searched against the first detector and stopped at its first success: attacks against the "
    "other one may find more."
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
    """Judge the stored images of attack sets by another detector.

    FOLDER is an attack set, or a folder of them such as `sgrace attack` and `sgrace evaluate` write. Nothing
    is drawn again: sets hold the image that the attack kept for each prompt, and these are judged. The result
    goes beside each set, to rescored/DETECTOR-HASH.json; the set stays as it is.
    """
    options = detector_options(name, pairs)

    from ..testbeds.rescoring import rescore as rescore_sets  # noqa: PLC0415  (torch takes seconds to import)

    found = rescore_sets(folder, name, options)
    rows = [_row(result) for result in found.values()]
    if as_json:
        click.echo(json.dumps({"folder": str(folder), "attacks": rows}))
        return
    for row in rows:
        before = f"{row['before']['hits']} of {row['before']['n']}"
        after = f"{row['after']['hits']} of {row['after']['n']}"
        detectors = f"{row['detector_before']}: {before}   {row['detector']}: {after}"
        click.echo(f"{row['attack']:18s} {detectors}   same verdict: {row['agree']}")
    click.echo(SEARCHED)


class AttackOrRescore(click.Command):
    """``sgrace attack``; with ``--rescore`` it is ``sgrace rescore``, which takes other options."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,  # noqa: ANN401  (as click has it)
    ) -> click.Context:
        """The context of the command that the options ask for."""
        if not self.is_rescore(args):
            return super().make_context(info_name, args, parent, **extra)
        return rescore.make_context(info_name, self.as_rescore(args), parent, **extra)

    @staticmethod
    def is_rescore(args: Sequence[str]) -> bool:
        """Whether the option is among them."""
        return any(arg.partition("=")[0] == OPTION for arg in args)

    @staticmethod
    def as_rescore(args: Sequence[str]) -> list[str]:
        """The same as arguments of ``sgrace rescore``."""
        is_option = [arg.partition("=")[0] == OPTION for arg in args]
        pairs = zip(args, is_option, strict=True)
        return [arg.replace(OPTION, "--detector", 1) if found else arg for arg, found in pairs]


def _row(found: Rescored) -> dict[str, Any]:
    before = found.share_before
    after = found.share
    return {
        "attack": found.attack,
        "detector_before": found.before.name,
        "before": {"hits": before.hits, **before.as_dict()},
        "detector": found.detector.name,
        "threshold": found.detector.threshold,
        "after": {"hits": after.hits, **after.as_dict()},
        "agree": found.agree,
    }
