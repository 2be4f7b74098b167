"""Recipes: any file loads or is refused in one sentence that names the field; version 1 is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sgrace._util.errors import InputError
from sgrace.erasure import Recipe
from sgrace.testbeds import emoji

from .made import of_denoiser, tiny_model

VERSION_1: dict[str, Any] = {
    "method": "esd",
    "paper": "arXiv 2303.07345",
    "config": {"lr": 1e-4},
    "concepts": [{"name": "church", "kind": "object"}],
    "knowledge": [
        {
            "source": "file words.txt",
            "related": ["church"],
            "unrelated": ["dog"],
            "surrogates": ["house"],
            "contexts": ["{}"],
            "unrelated_contexts": ["{}"],
            "overlap": [],
        }
    ],
    "loss_by_round": [0.5, 0.25],
    "base_model": "emoji",
    "seed": 1,
    "cost": {
        "unet_calls": 3,
        "unet_rows": 9,
        "text_encoder_calls": 1,
        "text_encoder_rows": 2,
        "trained_parameters": 5,
    },
    "peak_memory_mb": 700,
    "versions": {"torch": "2.6"},
    "seconds": 1.5,
    "sha256": {"unet.safetensors": "0" * 64},
}


def read(tmp_path: Path, content: object) -> Recipe:
    file = tmp_path / "recipe.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return Recipe.read(file)


def version_2() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(of_denoiser(tiny_model()).recipe.to_json())
    return found


def test_what_is_written_is_read_again_and_is_json(tmp_path: Path) -> None:
    recipe = of_denoiser(tiny_model()).recipe
    text = recipe.to_json()
    assert "NaN," not in text.replace('"NaN"', "")
    assert json.loads(text)["schema_version"] == 2
    assert json.loads(text)["targets"][0]["words"]["overlap"] == ["dog"]
    assert recipe.config == {"lr": 1e-3, "limit": "Infinity", "steps": [1, 2]}
    assert read(tmp_path, text) == recipe


def test_version_1_is_brought_to_version_2(tmp_path: Path) -> None:
    recipe = read(tmp_path, VERSION_1)
    assert recipe.schema_version == 2
    assert recipe.is_version_1
    assert recipe.base.source == "emoji"
    assert recipe.cost.denoiser_calls == 3
    assert recipe.cost.denoiser_rows == 9
    assert recipe.details == {"loss_by_round": [0.5, 0.25]}
    assert recipe.sha256 == VERSION_1["sha256"]
    (target,) = recipe.targets
    assert (target.concept.name, target.concept.kind) == ("church", None), (
        "version 1 wrote object where no kind was stated"
    )
    assert target.words is not None
    assert target.words.related == ("church",)
    assert target.words.replacements == ("house",)


@pytest.mark.parametrize(("concept", "version"), [("weapon", 1), ("church", 1), ("line art", 2)])
def test_the_packaged_recipes_of_both_versions_are_read(concept: str, version: int) -> None:
    recipe = Recipe.read(emoji.gold_path(concept) / "recipe.json")
    assert recipe.is_version_1 == (version == 1)
    assert [each.name for each in recipe.concepts] == [concept]
    assert recipe.targets[0].words is None
    assert recipe.cost.denoiser_calls is None
    assert recipe.cost.trained_parameters == 13431368
    assert set(recipe.details) == {"stages"}


BROKEN_1 = [
    ("concepts", None),
    ("concepts", "church"),
    ("concepts", ...),
    ("concepts", []),
    ("concepts", ["church"]),
    ("concepts", [{"name": 5}]),
    ("concepts", [{"name": ""}]),
    ("concepts", [{"name": "church", "kind": "thing"}]),
    ("base_model", ...),
    ("base_model", 5),
    ("base_model", ""),
    ("method", 5),
    ("method", ...),
    ("method", ""),
    ("cost", "much"),
    ("cost", ...),
    ("cost", {"unet_calls": None}),
    ("seed", "x"),
    ("seed", ...),
    ("seed", [1]),
    ("knowledge", "words"),
    ("config", []),
    ("versions", {"torch": 2}),
    ("seconds", -1),
    ("sha256", ...),
    ("sha256", {"unet.safetensors": 1}),
    ("sha256", ["unet.safetensors"]),
]
BROKEN_2: list[tuple[str, object]] = [
    ("targets", None),
    ("targets", "church"),
    ("targets", ...),
    ("targets", []),
    ("targets", [{}]),
    ("base", ...),
    ("base", "emoji"),
    ("base", {}),
    ("base", {"source": "x", "sha256": {"unet": "0"}}),
    ("method", None),
    ("method", ...),
    ("cost", {}),
    ("cost", {"trained_parameters": -1}),
    ("seed", None),
    ("parents", ["../x"]),
    ("parents", [".."]),
    ("parents", "parents/0"),
    ("details", "x"),
    ("nonsense", 1),
    ("details", {"deep": json.loads("[" * 80 + "]" * 80)}),
    ("schema_version", 3),
    ("schema_version", "2"),
]


@pytest.mark.parametrize(("field", "value"), BROKEN_1)
def test_a_broken_field_of_version_1_is_named(tmp_path: Path, field: str, value: object) -> None:
    check_broken(tmp_path, VERSION_1, field, value)


@pytest.mark.parametrize(("field", "value"), BROKEN_2)
def test_a_broken_field_of_version_2_is_named(tmp_path: Path, field: str, value: object) -> None:
    check_broken(tmp_path, version_2(), field, value)


def check_broken(tmp_path: Path, good: dict[str, Any], field: str, value: object) -> None:
    raw = {key: each for key, each in good.items() if key != field}
    with pytest.raises(InputError, match=field) as caught:
        read(tmp_path, raw if value is ... else {**raw, field: value})
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


def test_broken_words_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"targets\.0\.words\.source"):
        read(tmp_path, {**VERSION_1, "knowledge": [{**VERSION_1["knowledge"][0], "source": 1}]})
    with pytest.raises(InputError, match="1 concepts and 2 word lists"):
        read(tmp_path, {**VERSION_1, "knowledge": VERSION_1["knowledge"] * 2})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "it is empty"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("[]", "must be a JSON object"),
        ("7", "must be a JSON object"),
        ("null", "must be a JSON object"),
        ("{}", "method"),
        ('{"seed": 1' + "0" * 5000 + "}", "not JSON"),
        ("\x00", "it is not text"),
        (" " * 20_000_001, "larger than 20,000,000 bytes"),
    ],
)
def test_what_is_no_recipe_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@given(
    value=JSON,
    field=st.sampled_from([*VERSION_1, *Recipe.model_fields]),
    old=st.booleans(),
    whole=st.booleans(),
)
@example(value="INFINITY", field="seconds", old=False, whole=False)
@example(value="nan", field="peak_memory_mb", old=True, whole=False)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_loads_or_is_refused(
    tmp_path: Path, value: object, field: str, old: bool, whole: bool
) -> None:
    good = VERSION_1 if old else GOOD_2
    recipe = None
    refusal = ""
    try:
        recipe = read(tmp_path, value if whole else {**good, field: value})
    except InputError as error:
        refusal = str(error)
    assert len(refusal) < 800
    if recipe is not None:
        assert read(tmp_path, recipe.to_json()).to_json() == recipe.to_json()


GOOD_2 = version_2()
