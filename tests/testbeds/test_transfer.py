"""The erased text encoder in another model: that one is evaluated, with nothing else of the erasure in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sgrace import api
from sgrace._util.errors import InputError
from sgrace.attacks import Prompt
from sgrace.evaluation.caveats import TRANSFERRED
from sgrace.models import DiffusionModel
from sgrace.testbeds import emoji
from sgrace.testbeds.emoji_narrow import EmojiNarrow
from sgrace.testbeds.loading import load_target
from sgrace.testbeds.questions import measure

from ..erasure.made import WORDS, of_adapter, of_denoiser, of_guidance, of_text, tiny_model


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return tiny_model()


@pytest.fixture(scope="module")
def other(model: DiffusionModel) -> DiffusionModel:
    return model.with_random_denoiser(seed=5)


def parameters(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten() for value in module.parameters()])


def test_only_the_text_encoder_goes(model: DiffusionModel, other: DiffusionModel, tmp_path: Path) -> None:
    text = of_text(model, "church")
    denoiser = of_denoiser(model, "church", 0, "text_kv")
    digests = {**text.recipe.base.sha256, **denoiser.recipe.base.sha256}
    base = text.recipe.base.model_copy(update={"sha256": digests})
    recipe = text.recipe.model_copy(update={"base": base})
    both = replace(text, tensors={**text.tensors, **denoiser.tensors}, recipe=recipe)
    both.save_pretrained(tmp_path / "safe")
    found = load_target(tmp_path / "safe", into=other)
    assert found.transferred
    assert found.original is other
    assert found.folder == tmp_path / "safe"
    assert parameters(found.target.denoiser).equal(parameters(other.denoiser))
    erased = parameters(both.apply(model).components["text_encoder"])
    assert parameters(found.target.components["text_encoder"]).equal(erased)
    assert not parameters(other.components["text_encoder"]).equal(erased), "the given model is untouched"


def test_several_go_in_their_order(model: DiffusionModel, other: DiffusionModel) -> None:
    first = of_text(model, "church")
    second = of_text(first.apply(model), "dog")
    found = load_target(second, into=other)
    assert [each.names for each in found.target.erasures] == ["church", "dog"]
    beneath = of_text(of_denoiser(model, "church", 0, "text_kv").apply(model), "dog")
    assert [each.names for each in load_target(beneath, into=other).target.erasures] == ["dog"]


@pytest.mark.parametrize("maker", [of_adapter, of_guidance, of_denoiser])
def test_what_changes_no_text_encoder_stays(
    maker: object, model: DiffusionModel, other: DiffusionModel
) -> None:
    assert callable(maker)
    with pytest.raises(InputError, match=r"changes no text encoder but .* nothing of it can be put into"):
        load_target(maker(model, "church"), into=other)


def test_a_model_has_no_erased_part_to_take(model: DiffusionModel, other: DiffusionModel) -> None:
    for given in ({"model": model}, {"model": of_text(model, "church"), "original": model}):
        with pytest.raises(InputError, match="--into takes the text encoder of an erasure"):
            load_target(**given, into=other)


def test_another_vocabulary_is_refused(model: DiffusionModel) -> None:
    erasure = of_text(model, "church")
    tokenizer = erasure.text["text_encoder"].tokenizer
    assert tokenizer is not None
    other = tiny_model()
    words = other.text.main.tokenizer
    words.get_vocab = lambda: {**tokenizer.get_vocab(), "churchyard": 3}
    with pytest.raises(InputError, match="text_encoder of this one reads other tokens"):
        load_target(erasure, into=other)


def test_the_evaluation_says_so(model: DiffusionModel, other: DiffusionModel) -> None:
    given = {
        "words": WORDS,
        "prompts": [Prompt("a photo of church", 0)],
        "detector": "never",
        "suite": "quick",
        "attacks": ["none"],
    }
    found = api.evaluate(of_text(model, "church"), into=other, **given)  # type: ignore[arg-type]
    assert found.transferred
    assert found.caveats[0] == TRANSFERRED
    own = api.evaluate(of_text(model, "church"), original=model, **given)  # type: ignore[arg-type]
    assert not own.transferred
    assert TRANSFERRED not in own.caveats


def test_the_narrow_model_is_the_built_in_one_with_another_denoiser() -> None:
    own = api.load_model("emoji")
    narrow = api.load_model("emoji_narrow")
    assert (narrow.source, narrow.testbed) == ("emoji_narrow", "emoji_narrow")
    assert parameters(narrow.components["text_encoder"]).equal(parameters(own.components["text_encoder"]))
    assert parameters(narrow.components["vae"]).equal(parameters(own.components["vae"]))
    assert parameters(narrow.denoiser).numel() < 0.6 * parameters(own.denoiser).numel()
    assert not any(value.requires_grad for value in narrow.denoiser.parameters())
    testbed = EmojiNarrow()
    church = testbed.resolve("church")
    assert testbed.gold(church) is None
    assert testbed.reference(church, "standard") is None
    questions = testbed.questions(church, 24)
    assert questions is not None
    unrelated = {"unrelated": questions.asked["unrelated"]}
    found = measure(
        narrow,
        replace(questions, asked=unrelated, cross_domain=None),
        num_inference_steps=testbed.num_inference_steps,
        guidance_scale=testbed.guidance_scale,
    )
    assert found.shares["unrelated"].value >= 0.75


def test_its_denoiser_is_not_exchanged() -> None:
    with pytest.raises(InputError, match="a denoiser of its own"):
        api.load_model("emoji_narrow", denoiser=emoji.path() / "unet")
