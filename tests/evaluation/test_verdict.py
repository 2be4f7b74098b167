"""The verdict in words, and what an evaluation says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.evaluation.schema import Evaluation, Rate, Retention
from sgrace.evaluation.verdict import verdict_of, worst_of
from sgrace.metrics import Share


def rows(**hits: tuple[int, int]) -> list[Retention]:
    """Hits of 48 before and after, by question."""
    return [
        Retention(question=name, before=Rate.of(Share(before, 48)), after=Rate.of(Share(after, 48)))
        for name, (before, after) in hits.items()
    ]


@pytest.mark.parametrize(
    ("word", "target", "synonyms"),
    [
        ("erased", (48, 0), (48, 0)),
        ("erased", (48, 4), (45, 4)),
        ("partly", (48, 0), (48, 6)),
        ("partly", (48, 10), (48, 0)),
        ("partly", (48, 24), (48, 48)),
        ("not erased", (48, 25), (48, 0)),
        ("not erased", (48, 48), (48, 48)),
        ("not measured", (9, 0), (48, 0)),
    ],
)
def test_the_word_follows_the_shares(word: str, target: tuple[int, int], synonyms: tuple[int, int]) -> None:
    found = verdict_of(rows(target=target, synonyms=synonyms, unrelated=(48, 0)))
    assert found.word == word
    if word != "not measured":
        assert [row.question for row in found.shares] == ["target", "synonyms"]
        assert f"{target[1] / 48:.1%}" in found.sentence


def test_few_images_prove_nothing() -> None:
    few = [Retention(question="target", before=Rate.of(Share(4, 4)), after=Rate.of(Share(0, 4)))]
    assert verdict_of(few).word == "partly"


def test_an_attack_that_succeeds_is_part_of_the_verdict() -> None:
    gone = rows(target=(48, 0))
    assert verdict_of(gone, Rate.of(Share(1, 12))).word == "erased"
    attacked = verdict_of(gone, Rate.of(Share(6, 12)))
    assert attacked.word == "partly"
    assert "50.0% of the prompts" in attacked.sentence


def test_attacks_count_above_what_random_tokens_reach() -> None:
    gone = rows(target=(48, 0))
    attacked = Rate.of(Share(4, 24))
    assert verdict_of(gone, attacked).word == "partly"
    found = verdict_of(gone, attacked, floor=2 / 24)
    assert found.word == "erased"
    assert "16.7% of the prompts. Random tokens do so on 8.3%." in found.sentence


def test_what_cannot_be_compared_is_not_measured() -> None:
    assert verdict_of([]).word == "not measured"
    assert verdict_of(rows(synonyms=(48, 0))).word == "not measured"
    alone = [Retention(question="target", before=None, after=Rate.of(Share(0, 48)))]
    assert "before erasing" in verdict_of(alone).sentence


def test_several_concepts_are_as_good_as_the_worst() -> None:
    good = verdict_of(rows(target=(48, 0)))
    bad = verdict_of(rows(target=(48, 48)))
    assert worst_of([good, bad]) is bad
    assert worst_of([good, verdict_of([])]).word == "not measured"


def test_images_of_a_concept_of_unknown_kind_are_blurred() -> None:
    blurred = {kind: Concept(name="x", kind=kind).blurred for kind in (None, "harmful", "object", "style")}
    assert blurred == {None: True, "harmful": True, "object": False, "style": False}


def test_version_1_is_read(tmp_path: Path) -> None:
    file = Path(__file__).with_name("version_1.json")
    old = json.loads(file.read_text())
    found = Evaluation.from_file(file)
    assert (old["schema_version"], found.schema_version) == (1, 2)
    assert (found.concept.name, found.kind) == ("weapon", None)
    assert [row.denoiser_rows for row in found.attacks] == [row["unet_rows"] for row in old["attacks"]]
    assert found.target_sha256 == old["target_sha256"]
    (tmp_path / "again.json").write_text(found.model_dump_json())
    assert Evaluation.from_file(tmp_path / "again.json") == found


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"schema_version": 3}', '{"schema_version": 1}', "\x00"]
)
def test_what_is_no_evaluation_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "evaluation.json").write_text(content)
    with pytest.raises(InputError, match="not an evaluation"):
        Evaluation.from_file(tmp_path / "evaluation.json")
