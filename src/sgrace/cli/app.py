"""``sgrace app``."""

from __future__ import annotations

import os
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from .._util.errors import InputError, InputWarning
from .loading import model_options
from .options import examples

if TYPE_CHECKING:
    from ..testbeds.loading import LoadOptions

PASSWORD = "SGRACE_APP_PASSWORD"  # noqa: S105  (the name of a variable)
OPEN = "Everybody who reaches this machine can use the app: set a password with --ask-password or " + PASSWORD

EPILOG = examples(
    "sgrace app",
    "sgrace app --model CompVis/stable-diffusion-v1-4 --device cuda --dtype bfloat16",
    "sgrace app --model some/folder --detector 'clip_zero_shot source=openai/clip-vit-base-patch32'",
    "sgrace app --host 0.0.0.0 --ask-password",
)


@click.command(epilog=EPILOG)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME",
    help="A model that pages may choose beside the built-in one: a diffusers folder or file, or a hub id; "
    "may be repeated. Pages can name no other.",
)
@click.option(
    "--detector",
    "detectors",
    multiple=True,
    metavar="TEXT",
    help="A detector that pages may choose, with its options: 'NAME KEY=VALUE KEY=VALUE'; may be repeated. "
    "Models that bring no judge need one to be attacked and measured. Pages can name no other.",
)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for every one."
)
@click.option("--port", default=7860, show_default=True, type=click.IntRange(0, 65535), help="0 for any.")
@click.option(
    "--ask-password",
    is_flag=True,
    help=f"Ask for a password that everybody must give. The variable {PASSWORD} sets one too.",
)
@model_options
def app(
    *,
    models: tuple[str, ...],
    detectors: tuple[str, ...],
    host: str,
    port: int,
    ask_password: bool,
    loading: LoadOptions,
) -> None:
    """Open a page in the browser: erase a concept, look at it, attack it, take the result away."""
    from ..app import server  # noqa: PLC0415  (imports torch)

    server.check_installed()
    password = click.prompt("Password", hide_input=True) if ask_password else os.environ.get(PASSWORD)
    if password is not None and not password.strip():
        raise InputError("The password is empty; give one, or none at all.")
    loopback = server.is_loopback(host)
    if not loopback and password is None:
        warnings.warn(f"{OPEN}.", InputWarning, stacklevel=1)
    found = server.listening(host, port)  # before models are loaded, which may take minutes

    from ..app.judges import Judges  # noqa: PLC0415  (torch takes seconds to import)
    from ..app.shelf import Shelf  # noqa: PLC0415

    judges = Judges.parse(detectors)
    for sentence in judges.lacking:
        warnings.warn(sentence, InputWarning, stacklevel=1)
    shelf = Shelf.load(models, loading, judges)
    with server.served(shelf, found, password=password, loopback=loopback) as served:
        click.echo(f"The app is at {server.address_of(found)}; Ctrl+C ends it.", err=True)
        with suppress(KeyboardInterrupt):  # the way to end it
            served.server.run(sockets=[found])
