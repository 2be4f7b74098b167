"""What all commands share: how they tell errors, load models and read settings."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from ..errors import InputError

if TYPE_CHECKING:
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


def settings_of(pairs: tuple[str, ...]) -> dict[str, str]:
    """``key=value`` pairs as a dictionary."""
    if bad := [pair for pair in pairs if "=" not in pair]:
        raise InputError(f"--set takes key=value, not {bad[0]!r}.")
    return dict(pair.split("=", 1) for pair in pairs)
