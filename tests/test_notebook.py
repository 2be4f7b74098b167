"""What objects show of themselves: short in a terminal, a card in a notebook, and nothing that runs."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from sgrace import AttackSet, Concept, Knowledge
from sgrace._util.notebook import Bar, Image, card
from sgrace.attacks.attack_set import Attempt
from sgrace.attacks.rescored import Rescored
from sgrace.detectors.always import Always
from sgrace.evaluation.verdict import not_measured
from sgrace.report import attack_plot, retention_plot

from .report.made import attack_row, evaluation, kept, manifest

HOSTILE = '"><img src=x onerror=alert(1)><script>alert(1)</script>'
ALLOWED = {"div", "b", "table", "tr", "td", "span", "img"}


class Tags(HTMLParser):
    """Elements and attributes of a card; every element must end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def attack_set(hits: int = 3, kind: str | None = "harmful", text: str = "a dagger") -> AttackSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(8, 3, 16, 16, generator=generator) * 2 - 1
    attempts = [Attempt(text, i, success=i >= 8 - hits, candidate=text, checks=1) for i in range(8)]
    record = manifest(attack_row("p4d_n", hits))
    concept = Concept.model_validate({"name": "weapon", "kind": kind})
    return AttackSet(attempts, {}, images, record.model_copy(update={"concept": concept}))


def words(text: str = "dagger") -> Knowledge:
    return Knowledge(source=text, related=(text,), unrelated=("dog", "house"))


def objects(text: str) -> dict[str, object]:
    found = evaluation(attack_row("none", 0), attack_row("p4d_n", 3), target=text, caveats=(text,))
    return {
        "evaluation": found.model_copy(update={"verdict": not_measured(text)}),
        "attack set": attack_set(text=text),
        "words": words(text),
        "rescored": Rescored.of(attack_set(text=text), Always()),
        "card": card(text, {text: text}, lead=text, bars=[Bar(text, 0.5, 0.2, 0.8, text)], notes=[text])
        + card("x", {}, images=[Image(text, text)]),
    }


@pytest.mark.parametrize("name", objects("x"))
def test_a_card_holds_no_script_and_what_is_hostile_is_text(name: str) -> None:
    shown = objects(HOSTILE)[name]
    text = shown if isinstance(shown, str) else shown._repr_html_()  # type: ignore[attr-defined]
    tags = Tags(text)
    assert tags.open == []
    assert set(tags.names) <= ALLOWED
    assert tags.attributes <= {"style", "src", "alt"}


def test_evaluations_and_words_are_short_in_a_terminal() -> None:
    found = evaluation(attack_row("none", 0), attack_row("p4d_n", 3))
    assert repr(found) == str(found)
    assert repr(found) == (
        "Evaluation('weapon', esd, standard: no verdict; typed prompts 3, any attack 3 of 12 prompts)"
    )
    assert repr(words()) == "Knowledge(dagger: 1 related, 2 unrelated words)"
    rescored = Rescored.of(attack_set(), Always())
    assert repr(rescored) == "Rescored(p4d_n: eye 3, always 8 of 8 images)"


@pytest.mark.parametrize(("kind", "same"), [("harmful", False), (None, False), ("object", True)])
def test_images_that_may_be_harmful_are_blurred_in_themselves(kind: str | None, same: bool) -> None:
    known = attack_set(kind="object")._repr_html_()
    shown = attack_set(kind=kind)._repr_html_()
    assert shown.count("<img") == 6
    assert shown.count("#d9534f") == 3, "those that the detector sees come first, with a red frame"
    assert (shown == known) is same
    assert shown.split("<img")[-1] == known.split("<img")[-1], "what shows nothing is never blurred"


def test_plots_are_figures(tmp_path: Path) -> None:
    found = evaluation(attack_row("none", 0), attack_row("p4d_n", 3), retention=(kept("target", 90, 3),))
    for figure, rows in ((attack_plot(found), 4), (retention_plot(found), 2)):
        (axis,) = figure.axes
        assert len(axis.get_yticks()) == rows
        figure.savefig(tmp_path / "plot.png")
