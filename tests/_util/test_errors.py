"""A suggestion is made only where it is likely to be meant."""

from __future__ import annotations

import pytest

from sgrace._util.errors import choices, unknown
from sgrace.testbeds.emoji import known_concepts


@pytest.mark.parametrize(
    ("given", "known", "meant"),
    [
        ("Church", ["church", "chapel"], "church"),
        ("garbage_truck", ["garbage truck", "truck"], "garbage truck"),
        ("adv-unlearn", ["adv_unlearn", "unlearn_diff_atk"], "adv_unlearn"),
        ("churhc", ["church", "chapel"], "church"),
        ("sdl", ["sld", "safree"], "sld"),
        ("quik", ["quick", "full"], "quick"),
        ("unlearn", ["unlearn_diff_atk", "pez"], "unlearn_diff_atk"),
    ],
)
def test_a_misspelt_name_is_recognised(given: str, known: list[str], meant: str) -> None:
    assert str(unknown("attack", given, known)) == f"Unknown attack {given!r}; did you mean {meant!r}?"


@pytest.mark.parametrize(
    ("given", "known"),
    [
        ("flag", ["flat", "line art"]),
        ("Halloween", ["whale", "owl"]),
        ("nudity", ["diy", "nut"]),
        ("", ["a", "b"]),
    ],
)
def test_another_word_is_not_taken_for_a_misspelling(given: str, known: list[str]) -> None:
    assert choices(given, known) == f"choose one of: {', '.join(sorted(known))}."


def test_many_names_are_not_all_printed() -> None:
    known = known_concepts()
    assert len(known) > 100
    message = str(unknown("concept", "nudity" * 900, known))
    assert f"there are {len(known)} to choose from, such as" in message
    assert len(message) < 500
