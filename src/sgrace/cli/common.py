"""What all commands share: how they tell errors, load models and read settings."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .._util.errors import InputError

if TYPE_CHECKING:
    from ..attacks import Scene
    from ..erasure import Erasure
    from ..models import StableDiffusion

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, and no progress bars.")


def user_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Bad input: one sentence on standard error, exit code 2."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401  (passed through)
        try:
            command(*args, **kwargs)
        except InputError as error:
            click.echo(f"sgrace: {error}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            click.echo("sgrace: interrupted; nothing was written.", err=True)
            sys.exit(130)

    return wrapped


def load_quietly() -> None:
    """No chatter of other libraries while models are loaded."""
    from diffusers.utils import logging as diffusers_logging  # noqa: PLC0415  (torch takes seconds to import)
    from transformers.utils import logging as transformers_logging  # noqa: PLC0415

    for logging in (diffusers_logging, transformers_logging):
        logging.disable_progress_bar()


def load(name: str, *, quiet: bool) -> StableDiffusion:
    """A model by name; ``quiet`` silences its own progress bars too."""
    from ..api import load_model  # noqa: PLC0415

    load_quietly()
    model = load_model(name)
    model.set_progress_bar_config(disable=quiet)
    return model


def scene_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options of all commands that attack a model: they say what :func:`scene_from` needs."""
    options = (
        click.option("--concept", help="What was erased; known by itself for an erasure of one concept."),
        click.option("--base", help="The model before erasing, for a target that is no erasure's folder."),
        click.option("--prompts", "prompt_file", type=click.Path(path_type=Path), help="Prompt table: a prompt a line, CSV, TSV, JSON."),
        click.option("--prompt-column", help="Column of the table that holds the prompts; known columns are found by themselves."),
        click.option("--knowledge", "word_file", type=click.Path(path_type=Path), help="Word file of the concept."),
        click.option("--detector", "detector_name", help="Decides success; the judge, for the built-in model."),
        click.option("--detector-set", "detector_pairs", multiple=True, metavar="KEY=VALUE", help="One option of the detector."),
        click.option("--protocol", default="shared", show_default=True, help="Which prompts are attacked: shared or diffusion_mu_attack."),
        click.option("--seed", default=0, show_default=True),
        click.option("--out", required=True, type=click.Path(path_type=Path), help="Result; the same command again goes on in it."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def scene_from(
    target: str,
    length: str,
    *,
    concept: str | None,
    base: str | None,
    prompt_file: Path | None,
    prompt_column: str | None,
    word_file: Path | None,
    detector_name: str | None,
    detector_pairs: tuple[str, ...],
    protocol: str,
    text_encoder: Path | None = None,
    unet: Path | None = None,
    quiet: bool,
) -> tuple[Scene, Erasure | None, dict[str, Any]]:
    """What a command attacks, the erasure it came from, and the facts that make two requests the same."""
    from .. import api  # noqa: PLC0415  (torch takes seconds to import)
    from .._util import registry  # noqa: PLC0415  (torch takes seconds to import)
    from ..attacks.prompt_files import read_prompts  # noqa: PLC0415
    from ..knowledge import Knowledge  # noqa: PLC0415

    options = settings_of(detector_pairs)
    if options and not detector_name:
        raise InputError("--detector-set needs --detector.")
    prompts = read_prompts(prompt_file, prompt_column=prompt_column) if prompt_file else None
    knowledge = Knowledge.from_file(word_file) if word_file else None
    load_quietly()
    attacked, original, erasure = api.load_target(target)
    if text_encoder or unet:
        attacked, original = attacked.with_parts(text_encoder, unet), original or attacked
    kind = None
    if concept is None:
        concept, kind = api.only_concept(erasure)
    if original is None and base:
        original = api.load_model(base)
    for model in (attacked, original):
        if model is not None:
            model.set_progress_bar_config(disable=quiet)
    detector = registry.load("detectors", detector_name).for_concept(concept, options) if detector_name else None
    scene = api.scene_of(
        attacked, concept, original=original, length=length, prompts=prompts, knowledge=knowledge, detector=detector, kind=kind,
        protocol=protocol,
    )  # fmt: skip
    request = {
        "target": api.fingerprint(attacked),
        "base": None if original is None else api.fingerprint(original),
        "concept": concept,
        "prompts": [[p.text, p.seed, p.guidance_scale] for p in scene.prompts],
        "protocol": protocol,
        "detector": scene.detector.identity.as_dict(),
    }
    return scene, erasure, request


def settings_of(pairs: tuple[str, ...]) -> dict[str, str]:
    """``key=value`` pairs as a dictionary."""
    if bad := [pair for pair in pairs if "=" not in pair]:
        raise InputError(f"--set takes key=value, not {bad[0]!r}.")
    return dict(pair.split("=", 1) for pair in pairs)
