"""The library's verbs: what they show, what they refuse, and how they find models."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel

import sgrace
from sgrace._util import registry
from sgrace._util.errors import InputError, InputWarning
from sgrace.api.erasing import refuse_settings_that_cannot_erase
from sgrace.concept import Concept
from sgrace.knowledge import Knowledge, Target
from sgrace.models import DiffusionModel
from sgrace.testbeds import emoji
from sgrace.testbeds.loading import base_of
from sgrace.testbeds.scenes import named_concept

from .conftest import tiny_pipeline


def test_the_verbs_are_shown_and_cost_nothing_until_they_are_used() -> None:
    assert {"attack", "erase", "evaluate", "load_model"} <= set(dir(sgrace))
    assert all(hasattr(sgrace, name) for name in dir(sgrace))
    code = "import sys, sgrace; dir(sgrace); print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "False\n"
    )
    with pytest.raises(AttributeError, match="no attribute 'eraze'"):
        sgrace.eraze  # noqa: B018


def test_what_is_no_concept_is_told() -> None:
    code = """
import sgrace
for concepts in (5, [], (), None, [5], "", "church, chapel", {"church": 1}):
    try:
        sgrace.erase("emoji", concepts)
    except sgrace.InputError as error:
        print(error)
"""
    # apart from this process, whose import hook checks the types of arguments before the library does
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 8


def test_concepts_count_once_and_have_one_word_list_each(model: DiffusionModel, words: Knowledge) -> None:
    erasure = sgrace.erase(
        model, ["church", "CHURCH "], method="esd", settings={"iterations": "1"}, words=words
    )
    assert [target.concept.name for target in erasure.recipe.targets] == ["church"]
    with pytest.raises(InputError, match="2 concepts need 2 word lists, not 1"):
        sgrace.erase(model, ["church", "boat"], method="esd", words=words)
    with pytest.raises(InputError, match="--words"):
        sgrace.erase(model, "greg rutkowski", method="esd")


class Settings(BaseModel):
    iterations: int = 1
    rounds: int = 1
    edit_steps: int = 1
    replacement: str | None = None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"iterations": 0}, "With iterations=0 nothing is erased"),
        ({"edit_steps": 0}, "With edit_steps=0 nothing is erased"),
        ({"replacement": " Church"}, "shows 'church' itself"),
        ({"replacement": "chapel"}, "shows 'church' itself"),
        ({"replacement": "a church"}, "shows 'church' itself"),
        ({"rounds": 0}, ""),
        ({"replacement": "dog"}, ""),
        ({"replacement": ""}, ""),
    ],
)
def test_settings_that_cannot_erase_are_refused(
    words: Knowledge, settings: dict[str, object], message: str
) -> None:
    config = Settings(**settings)
    targets = [Target(Concept(name="church"), words)]
    if message:
        with pytest.raises(InputError, match=message):
            refuse_settings_that_cannot_erase(config, targets)
    else:
        refuse_settings_that_cannot_erase(config, targets)


@pytest.mark.parametrize("name", registry.names("erasers"))
def test_every_preset_can_erase(name: str, words: Knowledge) -> None:
    kind = registry.load("erasers", name)
    for preset in kind.presets:
        config = kind.preset(preset, "object").config
        refuse_settings_that_cannot_erase(config, [Target(Concept(name="church"), words)])


def test_erase_refuses_before_it_works(model: DiffusionModel, words: Knowledge) -> None:
    with pytest.raises(InputError, match="With iterations=0 nothing is erased"):
        sgrace.erase(model, "church", method="esd", settings={"iterations": "0"}, words=words)
    with pytest.raises(InputError, match="did you mean 'esd'"):
        sgrace.erase(model, "church", method="esdd", words=words)


@pytest.mark.parametrize(("method", "setting"), [("esd", "lr=1e-30"), ("uce", "ridge=1e30")])
def test_an_erasure_that_changes_nothing_is_refused(
    model: DiffusionModel, words: Knowledge, method: str, setting: str
) -> None:
    short = {} if method == "uce" else {"iterations": "1", "num_inference_steps": "3", "pool": "1"}
    given = short | dict([setting.split("=")])
    with pytest.raises(InputError, match="leaves every weight as it was"):
        sgrace.erase(model, "church", method=method, settings=given, words=words)


def test_a_change_that_half_precision_cannot_hold_is_told(model: DiffusionModel, words: Knowledge) -> None:
    short = {"iterations": "1", "num_inference_steps": "3", "pool": "1", "lr": "1e-5"}
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        sgrace.erase(model, "church", method="esd", settings=short, words=words)
    with pytest.warns(InputWarning, match=r"Rounding to bfloat16 loses .* use --dtype float32"):
        sgrace.erase(model.to(dtype=torch.bfloat16), "church", method="esd", settings=short, words=words)


def test_concepts_that_are_erased_together_do_not_take_each_others_place(model: DiffusionModel) -> None:
    def words(own: str, *others: str) -> Knowledge:
        return Knowledge(source="test", related=(own,), unrelated=others, replacements=others)

    given = [words("church", "house", "dog"), words("house", "church", "dog")]
    settings = {"rounds": "1", "attack_steps": "1", "edit_steps": "1", "num_inference_steps": "3"}
    erasure = sgrace.erase(model, ["church", "house"], words=given, settings=settings)
    assert [found["name"] for found in erasure.recipe.details["replacements"]] == ["dog", "dog"]
    assert [target.words for target in erasure.recipe.targets] == given, "the recipe says what was asked for"


def test_a_relative_base_is_found_from_anywhere(
    model: DiffusionModel, words: Knowledge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_pipeline().save_pretrained(tmp_path / "tiny")
    (tmp_path / "elsewhere").mkdir()
    erasure = sgrace.erase(model, "church", method="esd", settings={"iterations": "1"}, words=words)
    base = erasure.recipe.base.model_copy(update={"source": "tiny"})
    object.__setattr__(erasure, "recipe", erasure.recipe.model_copy(update={"base": base}))
    monkeypatch.chdir(tmp_path)
    assert base_of(erasure, None) == "tiny"
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert Path(base_of(erasure, tmp_path / "results" / "safe")) == tmp_path / "tiny"
    assert base_of(erasure, None) == "tiny", "it cannot be found, and the error will name it"


def test_the_concept_and_its_kind_come_from_the_erasure() -> None:
    gold = emoji.gold("weapon")
    assert named_concept(gold, None, None) == Concept(name="weapon", kind="harmful")
    assert named_concept(gold, "Weapon", "object") == Concept(name="weapon", kind="object")
    assert named_concept(gold, "church", None) == Concept(name="church")
    with pytest.raises(InputError, match="--concept"):
        named_concept(None, None, None)


@pytest.mark.parametrize(
    ("name", "message"),
    [("emojy", "did you mean 'emoji'"), ("no/such", "Cannot load"), (" ", "name of the model is empty")],
)
def test_a_model_that_is_not_there_is_told(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sgrace.load_model(name)


def test_the_loader_names_the_testbed() -> None:
    model = sgrace.load_model("emoji")
    assert (model.testbed, model.source) == ("emoji", "emoji")
    assert sgrace.load_model(emoji.path()).testbed is None, "a folder is a folder"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"suite": "quik"}, "did you mean 'quick'"),
        ({"attacks": ["nonee"]}, "did you mean 'none'"),
        ({"features": "nowhere"}, "Cannot load 'nowhere' as an extractor"),
        ({}, "give --prompts and --detector"),
    ],
)
def test_evaluate_tells_bad_input_before_it_works(
    model: DiffusionModel, words: Knowledge, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        sgrace.evaluate(model, "church", words=words, **arguments)
