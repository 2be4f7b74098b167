"""``sgrace knowledge``, and ``sgrace erase`` without a word file, on a model that brings no words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from sgrace.erasure import Erasure
from sgrace.knowledge import read_words
from sgrace.report import plots

from ..llm_server import says, serving
from .conftest import UCE, Home, assert_refused, sgrace


def test_words_are_found_printed_and_written(home: Home, tmp_path: Path) -> None:
    out = tmp_path / "church.yaml"
    done = sgrace("knowledge", "church", "--model", home.tiny, "-o", out)
    assert done.exit_code == 0, done.output
    for part in (
        "related (erased)",
        "unrelated (protected)",
        "not protected",
        "replacement",
        "(the concept's name)",
        "(a kind of it, in WordNet)",
        f"Result: {out}",
        f"Picture: {tmp_path / 'church.png'}",
    ):
        assert part in done.stdout
    words = read_words(out)
    assert words.concept == "church"
    assert "cathedral" in words.related
    assert ", ".join(words.unrelated) in " ".join(done.stdout.split())
    assert words.reasons["church"] == "the concept's name"
    with Image.open(tmp_path / "church.png") as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("RGB").getcolors(10**6) or ()) > 50, "something is drawn"
    assert_refused(sgrace("knowledge", "church", "--model", home.tiny, "-o", out), "exists already")


def test_a_file_is_reviewed(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("church\nchapel\n\ndog, old churches\nboat, dog\n")
    done = sgrace("knowledge", "church", "--model", home.tiny, "--words", file, "--json")
    found = json.loads(done.stdout)
    assert found["words"]["unrelated"] == ["dog", "boat"]
    assert [one["word"] for one in found["dropped"]] == ["dog", "old churches"]
    assert found["replacement"]["word"] in {"dog", "boat"}


def test_a_picture_is_refused_before_any_work(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("knowledge", "church", "--model", home.tiny, "--words", home.words)
    assert_refused(sgrace(*given, "--picture", tmp_path / "a.jpg"), "is a PNG file; name it")
    (tmp_path / "there.png").touch()
    assert_refused(sgrace(*given, "--picture", tmp_path / "there.png"), "exists already")
    monkeypatch.setattr(plots, "find_spec", lambda _: None)  # as if matplotlib were not installed
    assert_refused(sgrace(*given, "--picture", tmp_path / "b.png"), "pip install 'sgrace[report]'")
    done = sgrace(*given, "-o", tmp_path / "c.yaml")
    assert done.exit_code == 0, done.output
    assert "The concept's space is not drawn. Pictures need matplotlib" in done.stderr
    assert not list(tmp_path.glob("[abc].*g"))


def test_erasing_needs_no_word_file(home: Home, tmp_path: Path) -> None:
    done = sgrace("erase", "Van Gogh", "--model", home.tiny, *UCE, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "Words of WordNet 3.0: 'van gogh' is taken for: Dutch Post-impressionist painter" in done.stderr
    (target,) = Erasure.from_pretrained(tmp_path / "out").recipe.targets
    assert target.words is not None
    assert "vincent van gogh" in target.words.related
    assert "dog" in target.words.unrelated


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["erase", "greg rutkowski", "-o", "{out}"],
            "does not know 'greg rutkowski', nor what it is",
        ),
        (["knowledge", "qqqqq"], "give its words with --words FILE"),
        (["knowledge", "church", "--source", "file"], "needs a file: name it with --words"),
        (["knowledge", "church", "--source", "offline", "--words", "{words}"], "leave one of them out"),
        (["knowledge", "church", "--words", "{words}", "--broader", "x"], "they come from the file"),
        (["knowledge", "church", "--source", "llm", "--sentence-model", "x"], "from the language model"),
        (["knowledge", "church, dog"], "lists several concepts"),
    ],
)
def test_bad_input_is_one_sentence(home: Home, tmp_path: Path, arguments: list[str], message: str) -> None:
    places = {"{out}": str(tmp_path / "out"), "{words}": str(home.words)}
    given = [places.get(each, each) for each in arguments]
    assert_refused(sgrace(*given, "--model", home.tiny), message)
    assert not (tmp_path / "out").exists()


def test_without_wordnet_it_says_what_to_install(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    done = sgrace("erase", "church", "--model", home.tiny, "-o", tmp_path / "out")
    assert_refused(done, "`pip install 'sgrace[wordnet]'` adds it")


def test_a_language_model_is_asked(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = {"related": ["chapel"], "near": ["mosque"], "unrelated": ["dog", "churches"]}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_MODEL", "tiny")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-key-of-the-tests")
    out = tmp_path / "church.yaml"
    with serving(says(json.dumps(lists))) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        done = sgrace("knowledge", "church", "--model", home.tiny, "--source", "llm", "-o", out)
    assert done.exit_code == 0, done.output
    assert "language model tiny: asked now; the raw answer is in" in " ".join(done.stdout.split())
    assert "'churches' is another form of 'church'" in done.stdout
    assert read_words(out).protected == ("mosque", "dog")
    written = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert b"sk-a-key" not in done.output.encode() + written


#: An attack that takes moments.
QUICK = ("--attacks", "none", "--effort", "quick")


def test_an_attack_uses_the_words_of_the_erasure_else_of_wordnet(home: Home, tmp_path: Path) -> None:
    given = ("--prompts", home.prompts, "--detector", "never", *QUICK)
    erased = sgrace("attack", home.safe, *given, "-o", tmp_path / "erased")
    assert erased.exit_code == 0, erased.output
    assert "No words are given" not in erased.stderr

    foreign = ("attack", home.tiny, "--base", home.tiny, "--concept", "church", *given)
    done = sgrace(*foreign, "-o", tmp_path / "foreign")
    assert done.exit_code == 0, done.output
    message = "No words are given, so those of WordNet 3.0 are used: 'church' is taken for: a place"
    assert message in " ".join(done.stderr.split())
    # other words are another request: they decide what attacks start from
    again = sgrace(*foreign, "--words", home.words, "-o", tmp_path / "foreign")
    assert_refused(again, "holds the results of another request: words.related differs")


def test_what_nobody_can_look_up_is_asked_for(home: Home, tmp_path: Path) -> None:
    done = sgrace("attack", home.tiny, "--concept", "church", *QUICK, "-o", tmp_path / "out")
    assert_refused(done, "brings no prompts and no detector for this concept: give --prompts and --detector.")
    known = ("--prompts", home.prompts, "--detector", "never")
    done = sgrace("attack", home.tiny, "--concept", "zorg", *known, *QUICK, "-o", tmp_path / "out")
    assert_refused(done, "WordNet does not know 'zorg', nor what it is: give its words with --words FILE")
    assert not (tmp_path / "out").exists()
