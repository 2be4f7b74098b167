"""Which rows stand in one table."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgrace.study import read_study
from sgrace.study.cells import scores_of
from sgrace.study.lines import tables_of

START = "church on emoji, smoke"
STUDY = """
name: x
suite: smoke
concepts: [church]
matrices:
  - {erasers: [uce], seeds: [0, 1]}
  - {erasers: [sld]}
"""


def tables(folder: Path, last: str) -> list[str]:
    """Tables of the scorings, with a field in the last matrix."""
    (folder / "x.yaml").write_text(STUDY.replace("[sld]", f"[sld], {last}"))
    return [name for _, name in tables_of(scores_of(read_study(folder / "x.yaml")))]


def test_rows_of_one_protocol_share_a_table(tmp_path: Path) -> None:
    assert tables(tmp_path, "references: [gold]") == [START] * 4


@pytest.mark.parametrize(
    ("field", "first", "last"),
    [
        ("attacks: [none]", "attacks none + ring_a_bell_soft", "attacks none"),
        ("dtype: bfloat16", "dtype auto", "dtype bfloat16"),
        ("attack_seed: 4", "seed 0", "seed 4"),
        ("detector: always", "detector None", "detector always"),
    ],
)
def test_rows_of_another_protocol_stand_in_another_table(
    tmp_path: Path, field: str, first: str, last: str
) -> None:
    assert tables(tmp_path, field) == [f"{START}, {first}"] * 2 + [f"{START}, {last}"]


@pytest.mark.parametrize(
    ("field", "told"),
    [("prompt_set: validation", "validation"), ("every_prompt: true", "every prompt attacked")],
)
def test_what_is_unusual_is_always_told(tmp_path: Path, field: str, told: str) -> None:
    assert tables(tmp_path, field) == [START, START, f"{START}, {told}"]
