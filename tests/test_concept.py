"""Concepts from user input."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sgrace._util.errors import InputError
from sgrace.concept import Concept, folded, parse_concepts


@pytest.mark.parametrize("name", ["church", "Church", " CHURCH ", "\tchurch\n"])
def test_names_are_compared_in_one_form(name: str) -> None:
    assert Concept.parse(name) == Concept(name="church")
    assert folded(name) == "church"


@pytest.mark.parametrize("name", ["garbage truck", "garbage_truck", "Garbage__Truck", "garbage \u00a0truck"])
def test_underscores_and_white_space_are_one_space(name: str) -> None:
    assert Concept.parse(name).name == folded(name) == "garbage truck"


def test_a_name_that_is_given_twice_counts_once() -> None:
    found = parse_concepts(["church", "CHURCH", "van_gogh", "church", "Van Gogh"], "style")
    assert found == [Concept(name="church", kind="style"), Concept(name="van gogh", kind="style")]
    assert parse_concepts("church") == [Concept(name="church")]


@pytest.mark.parametrize(
    "name", ["church, van gogh", "church,", "church; van gogh", "church|dog", "church\nvan gogh"]
)
def test_a_list_in_one_text_is_refused_with_the_way_out(name: str) -> None:
    for parse in (
        lambda: Concept.parse(name),
        lambda: parse_concepts(name),
        lambda: parse_concepts(["dog", name]),
    ):
        with pytest.raises(InputError, match="lists several concepts; name them separately"):
            parse()


@pytest.mark.parametrize("names", [[], (), "", [""], ["2024"], ["\u200b"], ["x" * 81]])
def test_what_names_no_concept_is_refused(names: str | list[str]) -> None:
    with pytest.raises(InputError):
        parse_concepts(names)


WRONG_TYPES = """
from sgrace._util.errors import InputError
from sgrace.concept import parse_concepts
for given in (("church", "objekt"), (5,), (None,), ([5],), ([None],), ([["church"]],), ({"church": 1},)):
    try:
        print("taken", parse_concepts(*given))
    except InputError as error:
        print("refused:", error)
"""


def test_arguments_of_wrong_types_are_refused_in_words() -> None:
    # in its own process: the tests' import hook checks all types, a user's process does not
    run = subprocess.run([sys.executable, "-c", WRONG_TYPES], capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    assert lines[0] == "refused: Unknown kind of concept 'objekt'; did you mean 'object'?"
    assert len(lines) == 7
    assert all(line.startswith("refused: ") for line in lines)
