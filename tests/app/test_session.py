from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sgrace import Erasure, InputError
from sgrace.app import views
from sgrace.app.session import Session
from sgrace.app.sessions import Key, Sessions
from sgrace.app.shelf import Shelf
from sgrace.app.work import Cancelled

from .conftest import WISH, WORDS

FIRST, SECOND = Key("a" * 32, "page1"), Key("b" * 32, "page1")
LONG = {**WISH, "effort": "standard"}


@pytest.fixture(scope="module")
def erased(shelf: Shelf) -> Iterator[Session]:
    """A page on which something is erased; its tests leave it usable."""
    sessions = Sessions(shelf)
    session = sessions.of(FIRST)
    session.erase(**{**WISH, "protected": f"{WORDS['protected']}\nchurches"}).result()
    yield session
    sessions.close()


def test_erase_look_and_take_away(erased: Session, tmp_path: Path) -> None:
    assert erased.erased is not None
    rows = erased.erased.rows()
    assert len(rows) == 4, "there is no prompt table: one prompt with four seeds"
    assert all(not torch.equal(row.original, row.erased) for row in rows)
    words = erased.erased.erasure.recipe.targets[0].words
    assert words is not None
    assert words.related == ("chapel",)
    assert set(words.unrelated) == {"dog", "tree", "boat", "house"}
    assert "'churches' is another form of 'church'" in views.outcome(erased.erased).replace("&#39;", "'")
    packed = erased.packed[erased.download("erasure").result()]
    assert packed.name == "without-church-erasure.zip"
    with zipfile.ZipFile(packed.path) as archive:
        archive.extractall(tmp_path)
    again = Erasure.from_pretrained(tmp_path / "without-church-erasure")
    assert again.same_as(erased.erased.erasure)
    export = erased.packed[erased.download("text-encoder").result()]
    assert "without-church-text-encoder/README.md" in zipfile.ZipFile(export.path).namelist()


def test_the_strength_moves_between_both_models(erased: Session) -> None:
    assert erased.erased is not None
    ends = erased.erased.rows()[0]
    erased.strength(0.5).result()
    half = erased.erased.rows()[0]
    assert torch.equal(half.original, ends.original)
    assert not torch.equal(half.erased, ends.erased)
    assert "strength 0.5" in views.gallery(erased.erased)
    erased.strength(0).result()
    assert torch.equal(erased.erased.rows()[0].erased, ends.original)
    erased.strength(1).result()
    assert torch.equal(erased.erased.rows()[0].erased, ends.erased)


def test_without_a_report_there_is_none(erased: Session) -> None:
    with pytest.raises(InputError, match="no report yet"):
        erased.download("report").result()


def test_a_cancelled_erasure_changes_nothing_and_leaves_nothing(erased: Session) -> None:
    before = erased.erased
    kept = sorted(erased.folder.iterdir())
    task = erased.erase(**LONG)
    while task.step is None:
        time.sleep(0.01)
    erased.cancel()
    with pytest.raises(Cancelled):
        task.result()
    assert erased.erased is before
    assert sorted(erased.folder.iterdir()) == kept
    assert erased.erase(**WISH).result() is erased.erased, "the page can go on"
    assert len(list(erased.folder.iterdir())) == 1, "files of the erasure before are gone"


def test_two_pages_do_not_mix(sessions: Sessions) -> None:
    first, second = sessions.of(FIRST), sessions.of(SECOND)
    assert first is not second
    assert sessions.of(Key(FIRST.browser, "page2")) is not first, "nor do two pages of one browser"
    running = first.erase(**LONG)
    waiting = second.erase(**{**WISH, "concept": "chapel", "related": "chapel"})
    while running.step is None:
        time.sleep(0.01)
    assert sessions.desk.ahead(waiting) == 1
    assert "1 task comes first" in views.progress(waiting, 1)
    with pytest.raises(InputError, match="still at work"):
        second.strength(0.5) if second.erased else second.erase(**WISH)
    first.cancel()
    found = waiting.result()
    assert first.erased is None
    assert found.concept.name == "chapel"
    secret = second.download("erasure").result()
    assert sessions.packed(SECOND.browser, secret) is not None
    assert sessions.packed(FIRST.browser, secret) is None, "another browser does not get the file"


def test_words_of_another_concept_are_left_aside(sessions: Sessions) -> None:
    task = sessions.of(FIRST).erase(**{**WISH, "concept": "qwxz", "owner": "weapon"})
    # WordNet is asked in their place, and does not know the name
    with pytest.raises(InputError, match="WordNet"):
        task.result()


def test_a_page_that_is_left_leaves_nothing(sessions: Sessions) -> None:
    session = sessions.of(FIRST)
    task = session.erase(**LONG)
    while task.step is None:
        time.sleep(0.01)
    folder = session.folder
    assert folder.is_dir()
    assert folder.stat().st_mode & 0o077 == 0, "other users of the machine cannot read it"
    sessions.end(FIRST)
    assert not folder.exists()
    assert task.state == "cancelled"
    with pytest.raises(InputError, match="closed"):
        session.erase(**WISH)
    assert sessions.of(FIRST) is not session


def test_idle_pages_and_the_server_leave_nothing(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    old = sessions.of(FIRST)
    old.seen -= 10
    monkeypatch.setattr(sessions, "_idle", 5)
    sessions.of(SECOND)
    assert not old.folder.exists()
    sessions.close()
    assert not sessions.folder.exists()


def test_too_many_pages_are_refused(sessions: Sessions) -> None:
    for n in range(3):
        sessions.of(Key("a" * 32, f"page{n}"))
    with pytest.raises(InputError, match="Too many pages"):
        sessions.of(Key("a" * 32, "page9"))


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no concept": ({"concept": None}, "Name the concept first"),
    "an empty concept": ({"concept": "  "}, "Name the concept first"),
    "a list": ({"concept": ["church"]}, "must be a text"),
    "several": ({"concept": "church, chapel"}, "several concepts"),
    "a null byte": ({"concept": "chu\0rch"}, "printable"),
    "too long": ({"concept": "x" * 81}, "1 to 80"),
    "a megabyte": ({"related": "x" * 10**6}, "longer than 40,000"),
    "words without end": ({"protected": "\n".join(map(str, range(2000)))}, "the most are 1,000"),
    "nothing to protect": ({"protected": "church"}, "No unrelated words are left"),
    "a model of the server's disk": ({"model": "/etc/passwd"}, "Unknown model"),
    "a model of the hub": ({"model": "owner/name"}, "Unknown model"),
    "a model that is no text": ({"model": {"path": "/etc"}}, "Unknown model"),
    "an unknown effort": ({"effort": "../full"}, "Unknown effort"),
    "an unknown kind": ({"kind": "nice"}, "Unknown kind"),
    "a negative seed": ({"seed": -1}, "whole number"),
    "half a seed": ({"seed": 0.5}, "whole number"),
    "no seed": ({"seed": None}, "whole number"),
    "an endless seed": ({"seed": float("inf")}, "whole number"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_typed_wrong_is_one_sentence(sessions: Sessions, case: str) -> None:
    typed, told = BAD[case]
    session = sessions.of(FIRST)
    with pytest.raises(InputError, match=told) as caught:
        session.erase(**{**WISH, **typed}).result()
    assert "\n" not in str(caught.value)
    assert list(session.folder.iterdir()) == []


def test_names_that_are_no_choices(erased: Session) -> None:
    for name in ("os.system", "../none", None, ["pez"]):
        with pytest.raises(InputError, match="Unknown attack"):
            erased.attack(name, "quick")
        with pytest.raises(InputError, match="Unknown download"):
            erased.download(name)
        with pytest.raises(InputError, match="Unknown suite"):
            erased.report(name)
    with pytest.raises(InputError, match="Unknown effort"):
        erased.attack("pez", "endless")
    for value in (-0.1, 1.1, float("nan"), None, "0.5", True):
        with pytest.raises(InputError, match="from 0 to 1"):
            erased.strength(value)


def test_nothing_is_attacked_before_something_is_erased(sessions: Sessions) -> None:
    session = sessions.of(FIRST)
    wishes: list[Callable[[], object]] = [
        lambda: session.attack("pez", "quick"),
        lambda: session.strength(0.5),
        lambda: session.report("quick"),
        lambda: session.download("erasure"),
    ]
    for wish in wishes:
        with pytest.raises(InputError, match="Nothing is erased yet"):
            wish()


HOSTILE = ["../../etc/passwd", "/<img src=x onerror=alert(1)>/${alert`1`}/{{1}}/con.zip"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_names(sessions: Sessions, name: str) -> None:
    session = sessions.of(FIRST)
    outside = set(sessions.folder.parent.glob("*"))
    wish = {**WISH, "concept": name, "kind": "harmful", "related": name}
    found = session.erase(**wish).result()
    packed = session.packed[session.download("erasure").result()]
    assert packed.path.resolve().is_relative_to(session.folder.resolve())
    assert Path(packed.name).name == packed.name
    inside = [Path(each).parts[0] for each in zipfile.ZipFile(packed.path).namelist()]
    assert set(inside) == {Path(packed.name).stem}
    made = set(sessions.folder.parent.glob("*")) - outside
    assert not [each for each in made if "passwd" in each.name]
    for html in (views.gallery(found), views.outcome(found), views.link("files/x", packed)):
        assert "<img src=x" not in html
    assert "onerror" not in views.gallery(found) or "&lt;img src=x onerror" in views.gallery(found)
    assert 'type="checkbox"' in views.gallery(found), "harmful images are blurred"
