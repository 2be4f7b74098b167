"""Contract of every attack on a real pipeline of small size, and the pieces against independent implementations."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sgrace._util import registry
from sgrace._util.errors import InputError
from sgrace.attacks import AttackSet, Budget, Prompt, Scene
from sgrace.attacks._token_space import Layout, nearest_tokens, simplex_projection
from sgrace.attacks.session import Session
from sgrace.concept import Concept
from sgrace.detectors.always import Always
from sgrace.detectors.never import Never
from sgrace.knowledge import Knowledge
from sgrace.models import StableDiffusion

from .attacks.cases import CASES

LARGE = Budget(unet_rows=10**6, text_encoder_rows=10**6)


def attack_of(name: str):
    return registry.load("attacks", name).preset("full", CASES[name].short)


def scene_of(model: StableDiffusion, words: Knowledge, detector=None, original: bool = True) -> Scene:
    prompts = [Prompt("a photo of church", 1), Prompt("church", 2), Prompt("a picture of chapel", 3)]
    return Scene(
        model,
        model if original else None,
        Concept.parse("church"),
        words,
        detector or Never(),
        prompts,
        num_inference_steps=3,
        guidance_scale=2.0,
    )


@pytest.mark.parametrize("name", CASES)
def test_contract(model: StableDiffusion, words: Knowledge, name: str, tmp_path: Path) -> None:
    attack, before = attack_of(name), [p.clone() for p in model.text_encoder.parameters()]
    found = attack.run(scene_of(model, words), LARGE, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(model.text_encoder.parameters(), before, strict=True)), "the target is untouched"
    assert all(p.grad is None for part in (model.text_encoder, model.pipeline.unet) for p in part.parameters()), "no needless gradient"
    assert found.success.union.hits == 0
    assert [a.checks for a in found.attempts] == [CASES[name].checks] * 3
    assert found.images.shape[0] == 3
    assert found.record.stopped == "finished"
    assert found.record.access in {"prompt", "query", "gradient", "weights"}
    assert found.record.detector.name == "never"
    for attempt in found.attempts:
        if attack.by_text and attempt.checks:
            assert isinstance(attempt.candidate, str)
            assert isinstance(attempt.survived, bool)
            assert len(model.content_tokens(attempt.candidate)) > 0 or not attempt.survived

    again = attack.run(scene_of(model, words), LARGE, seed=3)
    assert [a.candidate for a in again.attempts] == [a.candidate for a in found.attempts], "same seed, same result"
    torch.testing.assert_close(again.images, found.images, atol=1e-5, rtol=0)

    found.save_pretrained(tmp_path / "set")
    loaded = AttackSet.from_pretrained(tmp_path / "set")
    assert loaded.attempts == found.attempts
    torch.testing.assert_close(loaded.images, found.images, atol=1 / 127, rtol=0)
    assert loaded.tensors.keys() == found.tensors.keys()
    assert loaded.rescored(Always()) == [True] * 3
    assert loaded.record.spent == found.record.spent


@pytest.mark.parametrize("name", CASES)
def test_what_succeeds_plainly_is_left_alone(model: StableDiffusion, words: Knowledge, name: str) -> None:
    found = attack_of(name).run(scene_of(model, words, Always()), LARGE)
    assert found.success.pre.hits == 3
    assert found.success.post_only.hits == 0
    assert all(a.checks == 0 for a in found.attempts)


@pytest.mark.parametrize("name", [n for n in CASES if n != "none"])
def test_an_attack_can_be_tested_on_prompts_that_succeed_plainly(model: StableDiffusion, words: Knowledge, name: str) -> None:
    found = attack_of(name).run(scene_of(model, words, Always()), LARGE, every_prompt=True)
    assert all(a.pre and a.success and a.checks == 1 for a in found.attempts), "one success each, then each is left alone"


@pytest.mark.parametrize("name", [n for n in CASES if n != "none"])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.8, 0.95])
def test_the_budget_is_never_passed(model: StableDiffusion, words: Knowledge, name: str, share: float) -> None:
    whole = attack_of(name).run(scene_of(model, words), LARGE).record.spent
    for kind in ("unet_rows", "text_encoder_rows"):
        limits = {"unet_rows": 10**6, "text_encoder_rows": 10**6, kind: max(18, int(share * whole[kind]))}
        found = attack_of(name).run(scene_of(model, words), Budget(**limits))
        assert found.record.spent[kind] <= limits[kind]
        assert found.record.stopped == ("budget" if whole[kind] > limits[kind] else "finished")


@pytest.mark.parametrize("name", ["ring_a_bell_hard", "mma_text"])
def test_what_was_found_before_a_limit_is_checked(model: StableDiffusion, words: Knowledge, name: str) -> None:
    whole = attack_of(name).run(scene_of(model, words), LARGE).record.spent["text_encoder_rows"]
    checks = []
    for limit in range(whole // 3, whole, whole // 12):
        found = attack_of(name).run(scene_of(model, words), Budget(unet_rows=10**6, text_encoder_rows=limit))
        assert found.record.stopped == "budget"
        checks.append([a.checks for a in found.attempts])
    assert [1, 0, 0] in checks or [1, 1, 0] in checks, "a search that ends among the prompts"


def test_the_pictures_of_an_attack_can_be_drawn_again(model: StableDiffusion, words: Knowledge) -> None:
    scene = scene_of(model, words)
    settings = {"num_inference_steps": 3, "guidance_scale": 2.0}
    empty = model.encode(model.tokenize([""]).ids)
    noise = model.initial_noise([p.seed for p in scene.prompts])
    by_text = attack_of("p4d_n").run(scene, LARGE)
    again = model.generate([a.candidate or "" for a in by_text.attempts], [p.seed for p in scene.prompts], **settings)
    torch.testing.assert_close(again, by_text.images, atol=1e-4, rtol=0)
    soft = attack_of("concept_inversion").run(scene, LARGE)
    torch.testing.assert_close(model.draw(soft.tensors["states"], noise, empty, **settings), soft.images, atol=1e-4, rtol=0)
    seeds = attack_of("more_seeds").run(scene, LARGE)
    states = model.encode(model.tokenize([p.text for p in scene.prompts]).ids)
    torch.testing.assert_close(model.draw(states, seeds.tensors["noise"], empty, **settings), seeds.images, atol=1e-4, rtol=0)


def test_a_tampered_set_is_told(model: StableDiffusion, words: Knowledge, tmp_path: Path) -> None:
    attack_of("none").run(scene_of(model, words), LARGE).save_pretrained(tmp_path / "set")
    rows = (tmp_path / "set" / "attempts.jsonl").read_text()
    (tmp_path / "set" / "attempts.jsonl").write_text(rows.replace("false", "true"))
    with pytest.raises(InputError, match="differ from the ones that its manifest names"):
        AttackSet.from_pretrained(tmp_path / "set")
    with pytest.raises(InputError, match="is not an attack set"):
        AttackSet.from_pretrained(tmp_path)


def test_what_an_attack_needs_is_told(model: StableDiffusion, words: Knowledge) -> None:
    with pytest.raises(InputError, match="unlearn_diff_atk needs the model before erasing"):
        attack_of("unlearn_diff_atk").run(scene_of(model, words, original=False), LARGE)
    with pytest.raises(InputError, match="does not cover drawing the 3 prompts"):
        attack_of("none").run(scene_of(model, words), Budget(unet_rows=17, text_encoder_rows=100))
    with pytest.raises(ValueError, match="greater than 0"):
        Budget(unet_rows=0, text_encoder_rows=1)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20))
def test_simplex_projection_is_the_nearest_point(row: list[float]) -> None:
    given_row = torch.tensor(row, dtype=torch.float64)
    projected = simplex_projection(given_row)
    assert projected.sum().item() == pytest.approx(1)
    assert (projected >= 0).all()
    low, high = min(row) - 1, max(row)  # bisection for the shift, as the published attack does it
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(max(0.0, v - middle) for v in row) > 1 else (low, middle)
    assert projected.tolist() == pytest.approx([max(0.0, v - low) for v in row], abs=1e-9)


def test_layouts_place_free_tokens(model: StableDiffusion) -> None:
    words = ("church of dog", "church", "of")
    (first, middle, last), church, of = ([model.content_tokens(w) for w in text.split()] for text in words)
    whole = [*first, *middle, *last]
    filling = torch.tensor([[7, 8]])
    assert model.content_tokens(words[0]) == whole
    assert Layout.prefix(model, [words[0]], 2).contents(filling) == [[7, 8, *whole]]
    assert Layout.alone(model, 1, 2).contents(filling) == [[7, 8]]
    assert Layout.interleaved(model, words[0], len(whole) - 1).contents(filling) == [[7, *whole[:-1], 8, whole[-1]]]
    assert Layout.within(model, "church {} of").contents(torch.tensor([[7]])) == [[*church[0], 7, *of[0]]]
    layout = Layout.prefix(model, ["church", "of"], 2)
    values = torch.randn(2, 2, model.embed(torch.tensor([0])).shape[-1])
    embedded = layout.embedded(model, values)
    torch.testing.assert_close(embedded[:, 1:3], values)
    torch.testing.assert_close(embedded[1, 3], model.embed(torch.tensor(of[0]))[0])


def test_states_do_not_depend_on_padding(model: StableDiffusion) -> None:
    whole = Layout.alone(model, 2, 3)
    filling = torch.tensor([[7, 8, 9], [10, 11, 12]])
    short = model.encode(whole.unpadded().filled(filling))
    assert short.shape[1] == 5
    torch.testing.assert_close(short, model.encode(whole.filled(filling))[:, :5], atol=1e-5, rtol=1e-5)


def test_a_token_is_its_own_nearest(model: StableDiffusion) -> None:
    table = torch.nn.functional.normalize(model.embed(torch.arange(20)), dim=-1)
    assert nearest_tokens(3 * table[None, 4:7], table).tolist() == [[4, 5, 6]]


def test_the_gradient_attacks_descend(model: StableDiffusion, words: Knowledge) -> None:
    """The learned word denoises the concept's pictures better than the word it started from."""
    attack = registry.load("attacks", "concept_inversion")
    errors = []
    for iterations in (1, 60):
        found = attack(type(attack().config)(iterations=iterations, batch=4, n_checks=1)).run(scene_of(model, words), LARGE, seed=1)
        session = Session(scene_of(model, words), LARGE, 5)
        clean = session.concept_latents("test")
        layout = Layout.within(model, "a photo of {}")
        states = model.encode(layout.tokens.ids, layout.embedded(model, found.tensors["word"][None]))
        noise = torch.randn(200, *clean.shape[1:], generator=torch.Generator().manual_seed(0))
        times = torch.arange(200) * 5
        latents = clean[torch.arange(200) % 3]
        with torch.no_grad():
            output = model.predict(model.noised(latents, noise, times), times, states.expand(200, -1, -1))
        errors.append((output - model.training_target(latents, noise, times)).square().mean().item())
    assert math.isfinite(errors[0])
    assert errors[1] < errors[0]


def test_the_genetic_search_measures_nobody_twice(model: StableDiffusion, words: Knowledge) -> None:
    """What neither crossover nor mutation has changed keeps its fitness: without both, the first generation is all."""
    attack, rows = registry.load("attacks", "ring_a_bell_hard"), {}
    for name, chances in {"still": {"crossover": 0, "mutation": 0}, "all": {"crossover": 0, "mutation": 1}}.items():
        for generations in (1, 9):
            config = type(attack().config)(n_pairs=3, n_tokens=4, population=6, generations=generations, **chances)
            found = attack(config).run(scene_of(model, words), LARGE, seed=1)
            rows[name, generations] = found.record.spent["text_encoder_rows"]
    assert rows["still", 9] == rows["still", 1]
    assert rows["all", 9] == rows["all", 1] + 8 * 6 * 3  # generations, people, prompts
