"""What all commands share: how they tell errors, load models and read settings."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from .._util.errors import InputError, InputWarning
from .._util.settings import parse_pairs
from .._util.signals import exit_on_terminate

if TYPE_CHECKING:
    from ..concept import Kind
    from ..models import DiffusionModel
    from ..testbeds.loading import Loaded

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, and no progress bars.")


def user_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Bad input: one sentence on standard error, exit code 2."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401  (passed through)
        try:
            with exit_on_terminate(), warnings.catch_warnings():
                warnings.simplefilter("always", InputWarning)
                warnings.showwarning = _show_warning
                command(*args, **kwargs)
        except InputError as error:
            click.echo(f"sgrace: {error}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            click.echo("sgrace: interrupted; nothing was written.", err=True)
            sys.exit(130)

    return wrapped


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """One line on standard error for what the user should know; other libraries' warnings as Python shows them."""
    del file
    own = issubclass(category, InputWarning)
    text = f"sgrace: {message}" if own else warnings.formatwarning(message, category, filename, lineno, line)
    click.echo(text, err=True)


def load_quietly() -> None:
    """No chatter of other libraries while models are loaded."""
    from diffusers.utils import logging as diffusers_logging  # noqa: PLC0415  (torch takes seconds to import)
    from transformers.utils import logging as transformers_logging  # noqa: PLC0415

    for logging in (diffusers_logging, transformers_logging):
        logging.disable_progress_bar()


def load(name: str, *, quiet: bool) -> DiffusionModel:
    """A model by name; ``quiet`` silences its own progress bars too."""
    from ..api import load_model  # noqa: PLC0415

    load_quietly()
    model = load_model(name)
    model.set_progress_bar_config(disable=quiet)
    return model


def scene_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options of all commands that attack a model: see :func:`scene_arguments`."""
    options = (
        click.option("--concept", help="What was erased; known by itself for an erasure of one concept."),
        click.option(
            "--kind",
            type=click.Choice(["object", "style", "harmful"]),
            help="Kind of the concept; unknown kinds are blurred.",
        ),
        click.option("--base", help="The model before erasing; an erasure names its own."),
        click.option(
            "--prompts",
            "prompt_file",
            type=click.Path(path_type=Path),
            help="Prompt table: a prompt a line, CSV, TSV, JSON or JSON lines.",
        ),
        click.option("--prompt-column", help="Column of the table that holds the prompts."),
        click.option("--knowledge", "word_file", type=click.Path(path_type=Path), help="Word file of the concept."),
        click.option("--detector", "detector_name", help="Decides success; the judge, for the built-in model."),
        click.option(
            "--detector-set",
            "detector_pairs",
            multiple=True,
            metavar="KEY=VALUE",
            help="One option of the detector.",
        ),
        click.option(
            "--protocol",
            default="shared",
            show_default=True,
            help="Which prompts are attacked: shared or diffusion_mu_attack.",
        ),
        click.option("--seed", default=0, show_default=True),
        click.option(
            "--out",
            required=True,
            type=click.Path(path_type=Path),
            help="Result; the same command again goes on in it.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def load_scene_target(
    target: str,
    *,
    base: str | None,
    text_encoder: Path | None = None,
    unet: Path | None = None,
    quiet: bool,
) -> Loaded:
    """The model that a command attacks, with the model before erasing where it is known."""
    from ..models.loading import load_component  # noqa: PLC0415  (torch takes seconds to import)
    from ..testbeds.loading import load_target  # noqa: PLC0415

    load_quietly()
    loaded = load_target(target, base)
    if text_encoder or unet:
        model = loaded.target
        networks = {}
        for name, folder in ((model.text.main.component, text_encoder), (model.denoiser_component, unet)):
            if folder is not None:
                networks[name] = load_component(folder, model.components[name])
        denoiser = networks.pop(model.denoiser_component, None)
        replaced = model.replace(denoiser=denoiser, text=networks)
        loaded = loaded._replace(target=replaced, original=loaded.original or model)
    for one in (loaded.target, loaded.original):
        if one is not None:
            one.set_progress_bar_config(disable=quiet)
    return loaded


def scene_arguments(
    *,
    concept: str | None,
    kind: Kind | None,
    prompt_file: Path | None,
    prompt_column: str | None,
    word_file: Path | None,
    detector_name: str | None,
    detector_pairs: tuple[str, ...],
    protocol: str,
) -> dict[str, Any]:
    """What the options of a scene say, as the library's verbs take it."""
    from ..attacks.prompt_files import read_prompts  # noqa: PLC0415
    from ..knowledge import Knowledge  # noqa: PLC0415

    options = parse_pairs(detector_pairs, "--detector-set")
    if options and not detector_name:
        raise InputError("--detector-set needs --detector.")
    return {
        "concept": concept,
        "kind": kind,
        "prompts": read_prompts(prompt_file, prompt_column=prompt_column) if prompt_file else None,
        "words": Knowledge.from_file(word_file) if word_file else None,
        "detector": detector_name,
        "detector_options": options,
        "protocol": protocol,
    }
