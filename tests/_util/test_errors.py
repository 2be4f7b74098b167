"""A suggestion is made only where it is likely to be meant."""

from __future__ import annotations

import pytest
from hypothesis import given as given_by
from hypothesis import strategies as st

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


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("churhc", "church"),
        ("weapons", "weapon"),
        ("kitchn knife", "kitchen knife"),
        ("Crosed_Swords", "crossed swords"),
    ],
)
def test_a_slip_in_a_word_is_recognised(given: str, meant: str) -> None:
    found = choices(given, known_concepts(), are_words=True)
    assert found == f"did you mean {meant!r}?"


@pytest.mark.parametrize(
    "word",
    [
        *("flag", "Halloween", "nudity", "night", "press", "three", "cable", "lunch", "bath", "pirates of x"),
        *(
            "tench",
            "mickey",
            "spiderman",
            "goatee",
            "noose",
            "spear",
            "pikachu",
            "snoopy",
            "van gogh",
            "cocaine",
        ),
        *("guillotine", "swastika", "garbage bag", "rock", "diving", "ham", ""),
    ],
)
def test_another_word_is_not_taken_for_a_slip(word: str) -> None:
    assert "did you mean" not in choices(word, known_concepts(), are_words=True)


LONG_NAMES = [name for name in known_concepts() if len(name.replace(" ", "")) >= 9]


@given_by(data=st.data())
def test_every_slip_of_one_letter_in_a_long_name_is_found(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(LONG_NAMES))
    at = data.draw(st.integers(0, len(name) - 2))
    letter = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz"))
    slip = data.draw(
        st.sampled_from(
            [
                name[:at] + letter + name[at:],
                name[:at] + name[at + 1 :],
                name[:at] + letter + name[at + 1 :],
                name[:at] + name[at + 1] + name[at] + name[at + 2 :],
            ]
        )
    )
    # names that differ by one letter, as a plural does, are near to the same slip
    assert choices(slip, [name, "church", "dog"], are_words=True) == f"did you mean {name!r}?"
    assert "did you mean" in choices(slip, known_concepts(), are_words=True)


def test_many_names_are_not_all_printed() -> None:
    known = known_concepts()
    assert len(known) > 100
    message = str(unknown("concept", "nudity" * 900, known))
    assert f"there are {len(known)} to choose from, such as" in message
    assert len(message) < 500
