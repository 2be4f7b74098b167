"""The model, every eraser and every attack on another device and in half precision.

The other device is pretended (see `elsewhere`): what runs there must mix no tensors, must draw random numbers
from CPU generators only, and must give what it gives on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from sgrace import api
from sgrace._util import registry
from sgrace._util.errors import InputError
from sgrace.attacks import AttackSet, Prompt
from sgrace.concept import Concept
from sgrace.erasers.base import Eraser
from sgrace.erasers.sgrace import SGrace
from sgrace.erasure import Erasure
from sgrace.knowledge import Knowledge, Target
from sgrace.metrics.extractor import Extractor
from sgrace.models import DiffusionModel
from sgrace.models.families.stable_diffusion import StableDiffusion
from sgrace.models.needs import Need
from sgrace.testbeds.loading import Loaded

from .attacks.cases import CASES as ATTACKS
from .attacks.scenes import attack_of, scene_of
from .conftest import tiny_pipeline
from .elsewhere import DEVICE, REAL, elsewhere
from .erasers.cases import CASES as ERASERS
from .golden.record import WORDS, state

HALF = [torch.bfloat16, torch.float16]
SAMPLING: dict[str, Any] = {"num_inference_steps": 3, "guidance_scale": 2.0}


def tiny_model() -> StableDiffusion:
    model = StableDiffusion.from_pipeline(tiny_pipeline())
    model.set_progress_bar_config(disable=True)
    return model


def erase(name: str, model: DiffusionModel) -> Erasure:
    eraser: Eraser[Any] = registry.load("erasers", name).preset(None, "object", ERASERS[name].short)
    return eraser.erase(model, [Target(Concept(name="church"), WORDS)], seed=1)


class Erased(NamedTuple):
    """A model on the CPU, and the same without the concept."""

    model: DiffusionModel
    safe: DiffusionModel


@cache
def erased_at_home(name: str) -> Erased:
    """What several tests compare with, and leave as it is."""
    model = tiny_model()
    return Erased(model, erase(name, model).apply(model))


def assert_same_weights(found: Any, expected: Any) -> None:
    # a GPU rounds otherwise, and Adam makes whole steps of a gradient that is nothing but rounding, such as
    # that of a key's bias, which attention ignores: there the images alone are compared
    if not REAL:
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def images_of(model: DiffusionModel) -> torch.Tensor:
    return model.generate(["a photo of church", "dog"], [1, 2], num_inference_steps=3, guidance_scale=2.0)


# -- the model -----------------------------------------------------------------------------------------------


def encode(model: DiffusionModel) -> torch.Tensor:
    return model.encode(["church", "a dog"]).prompt_embeds


def encode_embeddings(model: DiffusionModel) -> torch.Tensor:
    main = model.text.main
    tokens = main.tokenize(["church"])
    embeddings = main.embed(tokens.ids).requires_grad_()
    cond = model.encode_tokens(tokens, embeddings)
    cond.prompt_embeds[..., 0].sum().backward()  # a sum over all features would not depend on the embeddings
    assert embeddings.grad is not None
    return embeddings.grad


def predict(model: DiffusionModel) -> torch.Tensor:
    cond = model.encode(["church", "dog"])
    latents = model.noise(2, torch.Generator().manual_seed(0))
    one = model.predict(latents, torch.tensor(7.0), cond)
    each = model.predict(latents, model.schedule.sample_timesteps(2, torch.Generator().manual_seed(0)), cond)
    return one + each


def add_noise(model: DiffusionModel) -> torch.Tensor:
    noise = model.initial_noise([1, 2])
    timesteps = model.schedule.sample_timesteps(2, torch.Generator().manual_seed(0))
    noisy = model.schedule.add_noise(noise.flip(0), noise, timesteps)
    read = (model.schedule.target, model.schedule.to_noise, model.schedule.to_clean)
    return sum((function(noise, noisy, timesteps) for function in read), noisy)


def denoise_partly(model: DiffusionModel) -> torch.Tensor:
    some = model.denoise(
        model.initial_noise([1, 2]), model.encode(["church", "dog"]), model.uncond(), stop=2, **SAMPLING
    )
    return some.latents


def denoise_each(model: DiffusionModel) -> torch.Tensor:
    cond = model.encode(["church", "dog", "boat"])
    found = model.denoise_each(
        model.initial_noise([1, 2, 3]), cond, model.uncond(), stops=[2, 0, 1], **SAMPLING
    )
    model.predict(found.latents, found.timesteps, cond)
    return found.latents


def features(model: DiffusionModel) -> torch.Tensor:
    model.text = model.text.with_projection(torch.eye(model.text.main.width)[:5])
    return model.text_features(model.encode(["church"]))


def replaced_part(model: DiffusionModel) -> torch.Tensor:
    name = model.sites.names("text_kv")[0]
    value = dict(model.denoiser.named_parameters())[name].detach().cpu() * 2  # as it comes from a file
    return images_of(model.with_components({model.denoiser_component: {name: value}}))


Use = Callable[[DiffusionModel], torch.Tensor]
USES: list[Use] = [
    encode,
    encode_embeddings,
    predict,
    add_noise,
    denoise_partly,
    denoise_each,
    features,
    replaced_part,
    images_of,
]


@pytest.mark.parametrize("low_memory", [False, True])
@pytest.mark.parametrize("use", USES)
def test_a_model_elsewhere_gives_what_it_gives_at_home(use: Use, low_memory: bool) -> None:
    at_home = use(tiny_model())
    with elsewhere(draws=False):
        found = use(tiny_model_elsewhere(low_memory))
        assert found.device == DEVICE
        torch.testing.assert_close(found.cpu(), at_home, rtol=1e-4, atol=1e-5)


def tiny_model_elsewhere(low_memory: bool = False) -> StableDiffusion:
    model = tiny_model()
    if low_memory:  # only the network at work is there
        model.low_memory = True
        model.save_memory()
    model.to(DEVICE)
    assert model.device == DEVICE
    places = {tensor.device for module in model.components.values() for tensor in module.parameters()}
    assert places == {torch.device("cpu") if low_memory else DEVICE}
    return model


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("use", USES)
def test_a_model_in_half_precision_returns_float32_close_to_its_own(use: Use, dtype: torch.dtype) -> None:
    found = use(tiny_model().to(dtype=dtype))
    assert found.dtype == torch.float32
    expected = use(tiny_model())
    assert (found - expected).norm() < 0.2 * expected.norm()


# -- erasers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ERASERS)
def test_an_eraser_elsewhere_changes_what_it_changes_at_home_and_is_read_there_and_here(
    name: str, tmp_path: Path
) -> None:
    model, safe = erased_at_home(name)
    expected = state(safe)
    with elsewhere(draws=False):
        moved = tiny_model_elsewhere()
        erasure = erase(name, moved)
        safe_elsewhere = erasure.apply(moved)
        found = {key: value.cpu() for key, value in state(safe_elsewhere).items()}
        images = images_of(safe_elsewhere)
        erasure.save_pretrained(tmp_path / "erasure")
        read = Erasure.from_pretrained(tmp_path / "erasure")
        torch.testing.assert_close(images_of(read.apply(moved)), images)
    assert_same_weights(found, expected)
    torch.testing.assert_close(images.cpu(), images_of(safe), rtol=1e-2, atol=1e-3)
    at_home = images_of(read.apply(model))
    torch.testing.assert_close(at_home, images.cpu(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ERASERS)
def test_an_eraser_elsewhere_changes_the_same_in_low_memory(name: str) -> None:
    expected = state(erased_at_home(name).safe)
    with elsewhere(draws=False):
        moved = tiny_model_elsewhere(low_memory=True)
        safe = erase(name, moved).apply(moved)
        found = {key: value.cpu() for key, value in state(safe).items()}
        assert images_of(safe).isfinite().all()
    assert_same_weights(found, expected)


def test_every_part_of_sgrace_runs_elsewhere(words: Knowledge) -> None:
    settings = {
        **ERASERS["sgrace"].short,
        "learned_words": "1",
        "inversion_steps": "1",
        "soft_prompts": "1",
        "discriminator_weight": "0.1",
        "random_share": "0.5",
        "denoiser_steps": "2",
        "concept_images": "4",
        "path_prompts": "5",
        "path_steps": "2",
    }

    def parts(model: DiffusionModel) -> dict[str, dict[str, torch.Tensor]]:
        eraser = SGrace.preset(None, "object", settings)
        erasure = eraser.erase(model, [Target(Concept(name="church"), words)], seed=1)
        return {part: {name: t.cpu() for name, t in own.items()} for part, own in erasure.tensors.items()}

    expected = parts(tiny_model())
    assert set(expected) == {"text_encoder", "unet"}
    with elsewhere(draws=False):
        found = parts(tiny_model_elsewhere())
    assert_same_weights(found, expected)


# -- evaluations ---------------------------------------------------------------------------------------------


def test_an_evaluation_elsewhere_measures_what_it_measures_at_home(words: Knowledge) -> None:
    prompts = [Prompt("a photo of church", n) for n in range(9)]  # enough to span a space
    contexts = tuple(f"a {letter} of a {{}}" for letter in "abcdefghijklmnopqrst")

    def measured(model: DiffusionModel) -> dict[str, Any]:
        safe = erase("uce", model).apply(model)
        found = api.evaluate(
            Loaded(safe, model),
            "church",
            words=words.model_copy(update={"contexts": contexts}),
            prompts=prompts,
            detector="never",
            attacks=["none", "random_tokens"],
            features=Extractor("means", lambda images: images.flatten(2).mean(2)),
        )
        assert found.concept_space
        assert found.drift
        assert found.fidelity
        return found.model_dump(exclude={"attacks", "versions", "target_sha256", "cost"})

    at_home = measured(tiny_model())
    with elsewhere(draws=False):
        found = measured(tiny_model_elsewhere())
    assert found.keys() == at_home.keys()
    assert found["drift"] == at_home["drift"]
    assert found["fidelity"] == at_home["fidelity"]


# -- attacks -------------------------------------------------------------------------------------------------


def attack(name: str, model: DiffusionModel, words: Knowledge) -> AttackSet:
    return attack_of(name).run(scene_of(model, words), seed=3)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_elsewhere_finds_what_it_finds_at_home(name: str, words: Knowledge) -> None:
    at_home = attack(name, tiny_model(), words)
    with elsewhere(draws=False):
        found = attack(name, tiny_model_elsewhere(), words)
    assert [a.candidate for a in found.attempts] == [a.candidate for a in at_home.attempts]
    assert [a.checks for a in found.attempts] == [a.checks for a in at_home.attempts]


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_takes_gradients_only_if_it_says_so(name: str, words: Knowledge) -> None:
    taken = []
    with torch.no_grad():
        try:
            attack(name, tiny_model(), words)
        except RuntimeError as error:
            taken.append(str(error))
    assert bool(taken) == (Need.GRADIENTS in attack_of(name).needs)
    assert all("does not require grad" in message for message in taken)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_works_on_a_model_in_half_precision_or_is_refused(
    name: str, dtype: torch.dtype, words: Knowledge
) -> None:
    model = tiny_model().to(dtype=dtype)
    if reason := attack_of(name).refusal(type(model), dtype):
        with pytest.raises(InputError, match=f"{name} cannot attack stable_diffusion: {reason}"):
            attack(name, model, words)
        return
    found = attack(name, model, words)
    assert [a.checks for a in found.attempts] == [ATTACKS[name].checks] * 3
    assert found.record.stopped == "finished"
    for value in found.tensors.values():
        assert value.dtype == torch.float32
        assert torch.isfinite(value).all()
