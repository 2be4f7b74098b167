"""Erasures on top of each other: they compose or are refused with the way out, and none is ever lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sgrace._util import registry
from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.erasure import Erasure
from sgrace.knowledge import Target
from sgrace.models import DiffusionModel
from sgrace.models.loading import load_model_from
from sgrace.testbeds import emoji

from ..erasers.cases import CASES
from .made import (
    MAKERS,
    WORDS,
    erasure,
    image,
    moved,
    of_adapter,
    of_denoiser,
    of_guidance,
    of_text,
    tiny_model,
)


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return tiny_model()


def kv(model: DiffusionModel, concept: str, seed: int = 0) -> Erasure:
    return of_denoiser(model, concept, seed, "text_kv")


def self_attention(model: DiffusionModel, concept: str, seed: int = 0) -> Erasure:
    return of_denoiser(model, concept, seed, "self_attention")


#: First, second, and whether the second goes on top of the first though both were made on the original.
TABLE = [
    (of_text, kv, True),
    (kv, of_text, True),
    (kv, self_attention, True),
    (of_text, of_adapter, True),
    (self_attention, of_adapter, True),
    (of_guidance, kv, True),
    (of_adapter, of_guidance, True),
    (of_text, of_text, False),
    (kv, kv, False),
    (kv, of_adapter, False),
    (of_adapter, kv, False),
    (of_adapter, of_adapter, False),
    (of_guidance, of_guidance, False),
    (of_text, of_guidance, False),
    (of_guidance, of_text, False),
]
Maker = Callable[..., Erasure]


@pytest.mark.parametrize(("first", "second", "composes"), TABLE)
def test_two_that_were_made_on_the_original(
    model: DiffusionModel, first: Maker, second: Maker, composes: bool
) -> None:
    dog = first(model, "dog", seed=1)
    church = second(model, "church", seed=2)
    safe = dog.apply(model)
    if not composes:
        with pytest.raises(InputError, match=r"(together|already)"):
            church.apply(safe)
        return
    both = church.apply(safe)
    assert [each.names for each in both.erasures] == ["dog", "church"]
    for erased in (dog, church):
        for component, tensors in erased.tensors.items():
            for name, value in tensors.items():
                assert both.components[component].get_parameter(name).equal(value)
        assert erased.adapter is None or "adapter" in str(both.denoiser)
        assert erased.guidance is None or both.guidance is erased.guidance


def test_the_refusal_names_both_and_the_way_out(model: DiffusionModel) -> None:
    with pytest.raises(
        InputError,
        match=r"erasure of dog .* that of church would undo it; erase dog and church together, or .*safe",
    ):
        of_text(model, "church", seed=2).apply(of_text(model, "dog", seed=1).apply(model))


def test_force_applies_it_anyway(model: DiffusionModel) -> None:
    church = of_text(model, "church", seed=2)
    forced = church.apply(of_text(model, "dog", seed=1).apply(model), force=True)
    assert image(forced).equal(image(church.apply(model)))
    assert len(forced.erasures) == 2


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_applying_leaves_the_model_alone_and_twice_is_once(model: DiffusionModel, maker: Maker) -> None:
    before = image(model)
    made = maker(model)
    safe = made.apply(model)
    assert image(model).equal(before)
    assert model.erasures == ()
    assert made.apply(safe) is safe


@pytest.mark.parametrize(("name", "first"), [("receler", of_adapter), ("sld", of_guidance)])
def test_what_could_never_be_applied_is_refused_before_training(
    model: DiffusionModel, name: str, first: Maker
) -> None:
    eraser = registry.load("erasers", name).preset(None, "object", CASES[name].short)
    church = Target(Concept(name="church"), WORDS)
    assert eraser.erase(model, [church]).apply(model).erasures
    with pytest.raises(InputError, match="takes only one"):
        eraser.erase(first(model, "dog").apply(model), [church])


def test_what_was_made_on_an_erased_model_brings_the_first_along(model: DiffusionModel) -> None:
    dog = of_text(model, "dog", seed=1)
    church = of_text(dog.apply(model), "church", seed=2)
    apart = church.apply(dog.apply(model))
    assert [each.names for each in church.apply(model).erasures] == ["dog", "church"]
    assert image(church.apply(model)).equal(image(apart))


def test_an_erasure_of_another_model_of_the_same_sizes_is_refused(model: DiffusionModel) -> None:
    other = model.with_components({name: moved(model, name, seed=9) for name in ("unet", "text_encoder")})
    for maker in MAKERS.values():
        made = maker(model)
        with pytest.raises(InputError, match=r"made on another model: the .*--force"):
            made.apply(other)
        assert made.apply(other, force=True).erasures


def test_a_safe_model_that_is_not_known_as_one_is_noticed(model: DiffusionModel) -> None:
    safe = of_text(model, "dog", seed=1).apply(model).replace(erasures=())
    with pytest.raises(InputError, match="made on another model"):
        of_text(model, "church").apply(safe)


def test_names_and_shapes_are_checked_even_by_force(model: DiffusionModel) -> None:
    for tensors, message in (
        ({"unet": {"nonsense": torch.zeros(2)}}, "has no nonsense"),
        ({"transformer": {"x": torch.zeros(2)}}, "has no transformer"),
        ({"vae": {"x": torch.zeros(2)}}, "has no vae"),
        ({"unet": {"conv_in.weight": torch.zeros(2)}}, "has the shape"),
    ):
        made = erasure(model, {})
        wrong = Erasure(recipe=made.recipe, tensors=tensors)
        with pytest.raises(InputError, match=f"made for another model .*{message}"):
            wrong.apply(model, force=True)


@pytest.mark.parametrize(
    ("made_in", "used_in", "known"),
    [
        ("float32", "float16", True),
        ("float32", "bfloat16", True),
        ("float16", "float32", True),
        ("float16", "float16", True),
        ("bfloat16", "bfloat16", True),
        ("bfloat16", "float16", False),
    ],
)
def test_the_base_is_known_in_another_precision(made_in: str, used_in: str, known: bool) -> None:
    made = of_denoiser(tiny_model(getattr(torch, made_in)))
    target = tiny_model(getattr(torch, used_in))
    if known:
        made.apply(target)
        other = target.with_components({"unet": moved(target, "unet", seed=9)})
        with pytest.raises(InputError, match="made on another model"):
            made.apply(other)
    else:
        with pytest.raises(InputError, match=r"made in bfloat16, .* float32 or bfloat16"):
            made.apply(target)


def test_what_float16_cannot_hold_is_refused() -> None:
    model = tiny_model(torch.float16)
    made = of_denoiser(model)
    next(iter(made.tensors["unet"].values()))[0, 0] = 1e6
    with pytest.raises(InputError, match="too large for float16"):
        made.apply(model)


def test_the_retrained_models_do_not_go_on_top_of_each_other() -> None:
    original = load_model_from(emoji.path())
    safe = emoji.gold("church").apply(original)
    with pytest.raises(InputError, match="erase church and weapon together"):
        emoji.gold("weapon").apply(safe)


def test_a_folder_is_recorded_as_a_place_that_is_found_from_anywhere(
    model: DiffusionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    for source, recorded in (
        ("tiny", str(tmp_path / "tiny")),
        ("emoji", "emoji"),
        ("some/hub-id", "some/hub-id"),
    ):
        named = model.replace()
        named.source = source
        assert of_denoiser(named).recipe.base.source == recorded
    (tmp_path / "emoji").mkdir()
    named.source = named.testbed = "emoji"
    assert of_denoiser(named).recipe.base.source == "emoji"


def test_its_name_is_short(model: DiffusionModel) -> None:
    name = repr(of_denoiser(of_text(model, "dog").apply(model), "church"))
    assert len(name) < 200
    for part in ("by hand", "church", "unet", "dog", "pipeline"):
        assert part in name


def test_a_recipe_that_names_no_digest_of_its_base_is_refused() -> None:
    model = tiny_model()
    made = of_denoiser(model)
    base = made.recipe.base.model_copy(update={"sha256": {}})
    bare = replace(made, recipe=made.recipe.model_copy(update={"base": base}))
    with pytest.raises(InputError, match="has no digest of the unet"):
        bare.apply(model)
    assert bare.apply(model, force=True).erasures
    older = base.model_copy(update={"dtype": None})  # version 1 wrote none
    assert replace(bare, recipe=bare.recipe.model_copy(update={"base": older})).apply(model).erasures
