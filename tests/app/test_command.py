"""``sgrace app``: what is refused before any model is loaded."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from sgrace import InputError
from sgrace.app import server
from sgrace.app.shelf import Shelf
from sgrace.cli import main
from sgrace.cli.app import PASSWORD


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested here ends before gradio is needed."""
    monkeypatch.setattr(server, "find_spec", lambda _: True)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        found.listen()
        yield found.getsockname()[1]


def run(*arguments: str, env: dict[str, str] | None = None, typed: str = "") -> Result:
    return CliRunner().invoke(main, ["app", *arguments], env={PASSWORD: None, **(env or {})}, input=typed)


def refused(result: Result, told: str) -> None:
    assert result.exit_code == 2
    assert told in result.stderr
    assert "Traceback" not in result.output


def test_an_address_that_is_taken_or_none(taken: int) -> None:
    refused(run("--port", str(taken)), f"Cannot listen on 127.0.0.1 port {taken}")
    refused(run("--host", "no.such.host.invalid"), "name others with --host and --port")
    refused(run("--port", "70000"), "--port")


def test_an_empty_password_is_none(taken: int) -> None:
    refused(run("--port", str(taken), env={PASSWORD: " "}), "The password is empty")
    refused(run("--port", str(taken), "--ask-password", typed="  \n"), "The password is empty")


def test_a_server_for_everybody_without_a_password_is_told(taken: int) -> None:
    open_to_all = run("--host", "0.0.0.0", "--port", str(taken))  # noqa: S104
    assert "set a password with --ask-password" in open_to_all.stderr
    assert "set a password" not in run("--port", str(taken)).stderr
    with_password = run("--host", "0.0.0.0", "--port", str(taken), env={PASSWORD: "x"})  # noqa: S104
    assert "set a password" not in with_password.stderr


def test_without_gradio_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "find_spec", lambda _: None)
    refused(run(), "pip install 'sgrace[app]'")


def test_a_model_that_is_not_there_is_told_at_the_start() -> None:
    with pytest.raises(InputError, match="Unknown model"):
        Shelf.load(["no-such-model"])


def test_pages_see_names_and_no_paths(shelf: Shelf) -> None:
    model = shelf.model("tiny")
    assert Shelf({"tiny": model}).labels == ["tiny"]
    for label in ("/srv/models/tiny", "", None, 3):
        with pytest.raises(InputError, match="Unknown model"):
            shelf.model(label)
