"""What holds for every command: errors and interrupts in one sentence, silence of other libraries."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.exceptions import NoArgsIsHelpError

from .._util.errors import InputError, InputWarning
from .._util.folders import REQUEST
from .._util.places import is_disk_fault
from .._util.signals import exit_on_terminate
from .._util.text import reason, shown

#: Longest message.
MAX_MESSAGE = 600
#: Set before these libraries are imported; what the user has set counts.
SILENCE = {
    "DIFFUSERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


class Interrupted(KeyboardInterrupt):
    """An interrupt that knows what it leaves; its text says so."""


class Program(click.Group):
    """A group whose commands end in one sentence on standard error and a fixed exit code.

    The code is 2 for bad input, 130 for an interrupt and 128 + number for another signal that ends the
    process.
    """

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  (as click has it)
        """Run a command."""
        for name, value in SILENCE.items():
            os.environ.setdefault(name, value)
        try:
            with exit_on_terminate(), _quiet():
                return super().invoke(ctx)
        except NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            where = f" See `{error.ctx.command_path} -h`." if error.ctx else ""
            message = f"{_one_line(error.format_message())}{where}"
            code = 2
        except InputError as error:
            message = _one_line(str(error))
            code = 2
        except OSError as error:  # between the places that know what they write
            if not is_disk_fault(error):
                raise
            message = f"Cannot write {shown(Path(error.filename or 'a file'))}: {reason(error)}."
            code = 2
        except KeyboardInterrupt as error:
            message = str(error) or "interrupted; nothing was written."
            code = 130
        click.echo(f"sgrace: {message}", err=True)
        return ctx.exit(code)


@contextmanager
def goes_on_in(out: Path) -> Iterator[None]:
    """Let an interrupt say what is kept in a folder that is filled piece by piece."""
    try:
        yield
    except KeyboardInterrupt as error:
        if any(file.is_file() for file in out.rglob("*") if file.name != REQUEST):
            message = f"interrupted; what is finished is kept in {out}, and the same command goes on there."
            raise Interrupted(message) from error
        raise


@contextmanager
def _quiet() -> Iterator[None]:
    """Our own warnings in one line each; none of other libraries."""
    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", InputWarning)
        warnings.showwarning = _show_warning
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:  # noqa: ANN401  (category, file, line)
    click.echo(f"sgrace: {_one_line(str(message))}", err=True)


def _one_line(text: str) -> str:
    """The text on one line. Click quotes all that was typed: the middle of a long message is left out."""
    line = " ".join(text.split())
    half = MAX_MESSAGE // 2
    return line if len(line) <= MAX_MESSAGE else f"{line[:half]} ... {line[-half:]}"
