"""A small random pipeline, words, prompts and two erasures, made once for all tests of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner, Result

from sgrace.cli import main

from ..conftest import tiny_pipeline

#: The shortest run of S-GRACE, which changes the text encoder.
SHORT = (
    "--set",
    "rounds=1",
    "--set",
    "attack_steps=1",
    "--set",
    "edit_steps=2",
    "--set",
    "num_inference_steps=4",
)
#: A closed form that changes key and value matrices.
UCE = ("--method", "uce")


def sgrace(*args: str | Path) -> Result:
    """Run a command line within this process."""
    return CliRunner().invoke(main, [str(arg) for arg in args])


class Home(NamedTuple):
    """Files that the commands read."""

    tiny: Path  # a pipeline
    words: Path
    prompts: Path
    safe: Path  # an erasure of `church` by S-GRACE
    edited: Path  # an erasure of `dog` by UCE


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    root = tmp_path_factory.mktemp("home")
    found = Home(root / "tiny", root / "words.txt", root / "prompts.csv", root / "safe", root / "edited")
    tiny_pipeline().save_pretrained(found.tiny)
    found.words.write_text("church\nchapel\n\ndog, tree\nboat, house\n")
    found.prompts.write_text('seed,prompt\n5,a photo of church\n6,"=HYPERLINK(""church"")"\n')
    given = ("--model", found.tiny, "--words", found.words)
    for done in (
        sgrace("erase", "church", *given, *SHORT, "-o", found.safe, "--quiet"),
        sgrace("erase", "dog", *given, *UCE, "-o", found.edited, "--quiet"),
    ):
        assert (done.exit_code, done.output) == (0, "")
    return found


def assert_refused(result: Result, message: str = "") -> None:
    """One sentence on standard error, after what an erasure says that it does, and exit code 2."""
    assert result.exit_code == 2, (result.output, result.exception)
    *said, sentence = result.stderr.strip().splitlines()
    assert message in sentence
    assert not said or (len(said) == 1 and said[0].startswith("Erasing "))
    assert result.stdout == ""
