"""Options that several commands share, each written once."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from .._util.errors import InputError, InputWarning
from .loading import Command, Decorator, model_options, with_options
from .types import KINDS, ConceptName, DetectorName, Seed

if TYPE_CHECKING:
    from ..testbeds.loading import Loaded, LoadOptions

FILE = click.Path(path_type=Path)

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and no progress bars.")


def _errors_only(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    """No warnings where nothing but errors is wanted; the program restores them."""
    del ctx, param
    if value:
        warnings.simplefilter("ignore", InputWarning)
    return value


QUIET = click.option(
    "-q", "--quiet", is_flag=True, callback=_errors_only, help="Print errors only, and no progress bars."
)
SEED = click.option(
    "--seed", default=0, show_default=True, type=Seed(), help="The same seed gives the same result."
)
KIND = click.option(
    "--kind", type=click.Choice(KINDS), help="Kind of the concept. The built-in model knows its own concepts."
)
ERASURES = click.option(
    "--erasure",
    "erasures",
    multiple=True,
    type=FILE,
    metavar="FOLDER",
    help="Apply the erasure of this folder first; repeat it to apply several, in order.",
)
FORCE = click.option(
    "--force", is_flag=True, help="Apply an erasure even to weights that it was not made on."
)


def out_option(text: str, *, required: bool = True) -> Decorator:
    """``-o``, ``--out``: where the result goes."""
    return click.option("-o", "--out", required=required, type=FILE, help=text)


def set_option(what: str) -> Decorator:
    """``--set``: single settings of a method or an attack."""
    text = f"One setting of the {what}; may be repeated. `sgrace info NAME` lists them."
    return click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help=text)


def examples(*lines: str) -> str:
    """An epilog of command lines; the backspace keeps click from joining them."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


# -- scenes ----------------------------------------------------------------------------------------

_SCENE_OPTIONS = (
    click.option(
        "--concept",
        type=ConceptName(),
        help="The concept that was erased; the default is the one that the erasure names.",
    ),
    KIND,
    click.option(
        "--base", metavar="MODEL", help="The model before erasing; the default is the erasure's own."
    ),
    ERASURES,
    click.option(
        "--into",
        metavar="MODEL",
        help="Put the erased text encoder, and nothing else, into this model, and attack that: it shows "
        "whether the erasure holds with another denoiser.",
    ),
    FORCE,
    click.option(
        "--prompts",
        "prompt_file",
        type=FILE,
        help="Prompt table: one prompt a line, CSV, TSV, JSON or JSON lines.",
    ),
    click.option("--prompt-column", metavar="NAME", help="Column of the table that holds the prompts."),
    click.option(
        "--words",
        "word_file",
        type=FILE,
        help="Word file: related words, a blank line, words to retain. Without it, a model that brings none "
        "has those of the erasure, else of WordNet.",
    ),
    click.option(
        "--detector",
        "detector_name",
        type=DetectorName(),
        help="Decides whether an image shows the concept. The built-in model has its own.",
    ),
    click.option(
        "--detector-set",
        "detector_pairs",
        multiple=True,
        metavar="KEY=VALUE",
        help="One option of the detector; may be repeated.",
    ),
    click.option(
        "--protocol",
        default="shared",
        show_default=True,
        type=click.Choice(["shared", "diffusion_mu_attack"]),
        help="Which prompts are attacked: all, or as in Diffusion-MU-Attack those of up to 58 tokens.",
    ),
    SEED,
    out_option("Folder of the results; the same command again goes on in it."),
)


class SceneOptions(NamedTuple):
    """Which model is attacked, and how the scene is made.

    Attributes:
        base: the model before erasing.
        erasures: folders that are applied to the target.
        into: the model that gets the erased text encoder.
        force: apply them to other weights too.
        arguments: of :func:`sgrace.testbeds.scenes.prepare`.
    """

    base: str | None
    erasures: tuple[Path, ...]
    into: str | None
    force: bool
    arguments: Mapping[str, Any]


class TargetOptions(NamedTuple):
    """What every command that attacks a model is given.

    Attributes:
        target: folder of an erasure, diffusers folder, hub id or ``emoji``.
        scene: what is attacked, and how.
        seed: of the attacks.
        out: folder of the results.
        loading: how models are loaded.
        quiet: print errors only.
        as_json: print one JSON object.
    """

    target: str
    scene: SceneOptions
    seed: int
    out: Path
    loading: LoadOptions
    quiet: bool
    as_json: bool

    @property
    def silent(self) -> bool:
        """Whether nothing is printed on the way."""
        return self.quiet or self.as_json

    def load(self) -> Loaded:
        """The model that is attacked, and the model before erasing where it is known."""
        from ..testbeds.loading import load_target  # noqa: PLC0415  (torch takes seconds to import)

        scene = self.scene
        loaded = load_target(
            self.target,
            scene.base,
            erasures=scene.erasures,
            into=scene.into,
            force=scene.force,
            options=self.loading,
        )
        for one in (loaded.target, loaded.original):
            if one is not None:
                one.set_progress_bar_config(disable=self.silent)
        return loaded


def target_options(command: Command) -> Command:
    """The argument TARGET and the options of every command that attacks it; the command gets ``given``."""

    @functools.wraps(command)
    def wrapped(**values: Any) -> None:  # noqa: ANN401  (whatever else the command takes)
        given = TargetOptions(**{name: values.pop(name) for name in TargetOptions._fields})
        command(given=given, **values)

    return click.argument("target")(_scene_options(model_options(QUIET(JSON(wrapped)))))


def _scene_options(command: Command) -> Command:
    """Options that say what is attacked; the command gets them as ``scene``, beside ``seed`` and ``out``."""

    @functools.wraps(command)
    def wrapped(
        *,
        concept: str | None,
        kind: Any,  # noqa: ANN401  (one of the choices)
        base: str | None,
        erasures: tuple[Path, ...],
        into: str | None,
        force: bool,
        prompt_file: Path | None,
        prompt_column: str | None,
        word_file: Path | None,
        detector_name: str | None,
        detector_pairs: tuple[str, ...],
        protocol: str,
        **others: Any,  # noqa: ANN401  (whatever else the command takes)
    ) -> None:
        from ..attacks.prompt_files import read_prompts  # noqa: PLC0415  (torch takes seconds to import)
        from ..knowledge import Knowledge  # noqa: PLC0415

        if prompt_column and prompt_file is None:
            raise InputError("--prompt-column needs --prompts.")
        arguments = {
            "concept": concept,
            "kind": kind,
            "prompts": read_prompts(prompt_file, prompt_column=prompt_column) if prompt_file else None,
            "words": Knowledge.from_file(word_file) if word_file else None,
            "detector": detector_name,
            "detector_options": detector_options(detector_name, detector_pairs),
            "protocol": protocol,
        }
        command(scene=SceneOptions(base, erasures, into, force, arguments), **others)

    return with_options(wrapped, _SCENE_OPTIONS)


def detector_options(name: str | None, pairs: tuple[str, ...]) -> dict[str, str]:
    """Options of a detector as text.

    Raises:
        InputError: there is no detector that they belong to.
    """
    from .._util.settings import parse_pairs  # noqa: PLC0415

    options = parse_pairs(pairs, "--detector-set")
    if options and not name:
        raise InputError("--detector-set needs --detector.")
    return options
