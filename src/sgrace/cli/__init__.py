"""Command line: the group ``sgrace`` with all of its commands."""

from __future__ import annotations

import click

from .app import app
from .attack import attack
from .convert import convert
from .emoji import emoji
from .erase import erase
from .evaluate import evaluate
from .export import export
from .generate import generate
from .info import info
from .knowledge import knowledge
from .program import Program
from .report import report
from .rescore import rescore
from .show import env, list_
from .study import study

EPILOG = """\b
First steps:
  sgrace erase weapon -o safe
  sgrace attack safe --effort quick -o sets
  sgrace evaluate safe --suite quick -o evaluation

Completion of names in bash: eval "$(_SGRACE_COMPLETE=bash_source sgrace)"; zsh and fish alike."""


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG)
@click.version_option(package_name="sgrace")
def main() -> None:
    """Erase a concept from a text-to-image model so that it stays erased under attack."""


for command in (
    erase,
    generate,
    attack,
    evaluate,
    report,
    rescore,
    export,
    convert,
    knowledge,
    list_,
    info,
    env,
    emoji,
    study,
    app,
):
    main.add_command(command)
