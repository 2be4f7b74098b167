"""Models that bring no judge: detectors that the owner allows, prompts from the page or plain ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sgrace import InputError
from sgrace.app import prompts, typed, views
from sgrace.app.erased import Erased
from sgrace.app.judges import Judges
from sgrace.app.session import Session
from sgrace.app.sessions import Key, Sessions
from sgrace.app.shelf import Shelf
from sgrace.concept import Concept
from sgrace.knowledge import Knowledge
from sgrace.testbeds.files import FileTestbed

from ..small_clip import save_small_clip
from .conftest import WISH

PAGE = Key("a" * 32, "page1")
MISSING = "image_classifier source=owner/no-such-network class_ids=1"
TABLE = "prompt,evaluation_seed,guidance\na church on a hill,7,3.5\nan old church,8,\n"


@pytest.fixture(scope="module")
def judged(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A page of a server that allows detectors, on which something is erased."""
    clip = tmp_path_factory.mktemp("secret place") / "small-clip"
    save_small_clip(clip)
    texts = [f"clip_zero_shot 'source={clip}'", "always", "always threshold=0.9", MISSING, "nudenet"]
    sessions = Sessions(Shelf({"tiny": shelf.model("tiny")}, Judges.parse(texts)))
    session = sessions.of(PAGE)
    session.erase(**WISH).result()
    yield session
    sessions.close()


def erased_on(session: Session) -> Erased:
    assert session.erased is not None
    return session.erased


def test_plain_prompts_are_attacked_and_judged(judged: Session) -> None:
    erased = erased_on(judged)
    assert "brings no judge" in views.outcome(erased)
    judged.attack("random_tokens", "quick", "clip_zero_shot").result()
    found = erased.sets["random_tokens"]
    assert len(found.attempts) == 12
    assert found.record.detector.classes == ("church",)
    assert len({attempt.score for attempt in found.attempts}) > 1, "scores depend on the images"
    assert {prompt.text for prompt in erased.asked} == {attempt.prompt for attempt in found.attempts}
    assert {row.prompt for row in erased.rows()} <= set(erased.asked)
    told = views.attacks(erased)
    assert "quick, 12 prompts, judged by clip_zero_shot" in told
    assert told.count('class="bar') == 2, "without the attack and with it"


def test_a_table_of_the_page_is_attacked_with_its_seeds_and_guidance(judged: Session) -> None:
    judged.attack("random_tokens", "quick", "always", TABLE).result()
    erased = erased_on(judged)
    attempts = erased.sets["random_tokens"].attempts
    assert [(attempt.prompt, attempt.seed) for attempt in attempts] == [
        ("a church on a hill", 7),
        ("an old church", 8),
    ]
    assert erased.sets["random_tokens"].success.union.hits == 2, "always sees it"
    rows = erased.rows()
    assert [row.prompt.guidance_scale for row in rows] == [3.5, None]
    assert all(row.attacked is not None for row in rows)


def test_the_report_of_a_model_without_a_judge_has_scores_and_a_verdict(judged: Session) -> None:
    secret = judged.report("smoke", "always (2)", TABLE).result()
    erased = erased_on(judged)
    assert erased.evaluation is not None
    assert erased.evaluation.detector["threshold"] == 0.9
    assert erased.evaluation.verdict is not None
    assert erased.evaluation.verdict.word == "not erased", "always sees it, before and after"
    told = views.scores(erased)
    assert "Not safe" in told
    assert "Weakest evidence" in told
    assert "the concept by name" in told
    page = judged.packed[secret].path.read_text()
    assert "church" in page
    assert views.scores(None) == ""


BAD = {
    "no detector is chosen": (("quick", ""), "choose one from the list"),
    "no such detector": (("quick", "q16"), "Unknown detector"),
    "a path": (("quick", "/etc/passwd"), "Unknown detector"),
    "a dictionary": (("quick", {"name": "always"}), "Unknown detector"),
    "what would be downloaded": (
        ("quick", "image_classifier"),
        "needs 'owner/no-such-network', which is not on",
    ),
    "what is not installed or knows no church": (("quick", "nudenet"), "NudeNet|nudity"),
    "a long table": (("quick", "always", "x" * (typed.MAX_TABLE + 1)), "longer than 150,000"),
    "many prompts": (("quick", "always", "a church\n" * 201), "the most are 200"),
    "no prompt": (("quick", "always", "prompt,seed\n"), "holds no prompt"),
    "no column": (
        ("quick", "always", '[{"a": "x", "b": "y"}]'),
        "^The table has no column of prompts.*Call one `prompt`",
    ),
    "a bad seed": (("quick", "always", "prompt,seed\nx,-1\n"), "whole number"),
    "a bad row": (("quick", "always", "prompt,seed\nx,1,2,3\n"), "of the table"),
    "code": (("quick", "always", "import os\nos.system('x')\nreturn os\n"), "not like a prompt table"),
    "no text": (("quick", "always", ["a church"]), "must be a text"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_judged_is_one_sentence(judged: Session, case: str) -> None:
    given, told = BAD[case]
    with pytest.raises(InputError, match=told) as caught:
        judged.attack("random_tokens", *given).result()
    assert "\n" not in str(caught.value)
    assert "--prompt-column" not in str(caught.value)


def test_a_server_without_detectors_says_what_is_missing() -> None:
    words = Knowledge(source="test", related=(), unrelated=("dog",))
    with pytest.raises(InputError, match=r"allows none.*sgrace app --detector NAME"):
        Judges().check("", FileTestbed(words))
    assert Judges().check("", FileTestbed(words, detector="always")) == ""


def test_what_an_owner_names_wrongly_is_told_at_the_start() -> None:
    for text, told in (
        ("clip_zreo_shot", "did you mean 'clip_zero_shot'"),
        ("always colour=red", "colour"),
        ("always threshold", "KEY=VALUE"),
        ("always 'threshold=1", "No closing quotation"),
        ("", "Unknown detector"),
    ):
        with pytest.raises(InputError, match=told):
            Judges.parse([text])
    assert Judges.parse([MISSING]).lacking
    assert Judges.parse(["always"]).lacking == []


def test_no_path_of_the_server_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "broken-clip"
    broken.mkdir()
    words = Knowledge(source="test", related=(), unrelated=("dog", "tree"))
    judges = Judges.parse([f"clip_zero_shot source={broken}", "q16 clip=/srv/secret/clip"])
    for label in judges.labels:
        with pytest.raises(InputError) as caught:
            judges.detector(label, Concept(name="church"), FileTestbed(words))
        assert str(tmp_path) not in str(caught.value)
        assert "/srv" not in str(caught.value)


def test_plain_prompts_are_not_those_that_erasers_train_with() -> None:
    words = Knowledge(
        source="test", related=("chapel",), unrelated=("dog",), contexts=("a painting of {}", "{}")
    )
    found = prompts.plain(Concept(name="church"), words, 12)
    assert len(found) == len({prompt.seed for prompt in found}) == 12
    assert [sum(word in prompt.text for prompt in found) for word in ("church", "chapel")] == [7, 5]
    assert all("a painting of" not in prompt.text for prompt in found)
    assert len(prompts.plain(Concept(name="church"), words, 99)) == 14, "as many as there are"
    style = prompts.plain(Concept(name="line art", kind="style"), words, 3)
    assert all("line art style" in prompt.text for prompt in style)
    assert prompts.given(" \n ") is None
