"""Contract of every eraser on a real pipeline of small size; closed forms against an independent float64 reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sgrace._util import registry
from sgrace._util.errors import InputError
from sgrace.api import fingerprint
from sgrace.concept import Concept
from sgrace.erasers._shared.closed_form import Wish, edit_matrices
from sgrace.erasers._shared.partial_samples import Samples, outputs, partial_samples
from sgrace.erasers._shared.prompts import last_word_states, tail_states
from sgrace.erasers.base import Eraser
from sgrace.erasers.rece import RECE, RECEConfig, recovering_states
from sgrace.erasers.uce import UCEConfig, kept_texts, wishes_of
from sgrace.erasure import Erasure
from sgrace.knowledge import Knowledge
from sgrace.models import StableDiffusion
from sgrace.models.sites import GROUPS, group_names, shared_copy

from .erasers.cases import CASES

#: The parameters that each eraser may change.
GROUP_OF = {
    "uce": "cross_attention_kv",
    "rece": "cross_attention_kv",
    "esd": "cross_attention",
    "race": "cross_attention",
    "concept_ablation": "cross_attention_kv",
    "salun": "all",
    "erasediff": "all",
    "forget_me_not": "all",
    "mace": "cross_attention_kv",
    "stereo": "cross_attention",
    "speed": "cross_attention_kv",
    "spm": "transformers",
}
GUIDED = {name for name in CASES if registry.load("erasers", name).form == "guidance"}
CHURCH = Concept(name="church")


def eraser_of(name: str, settings: dict[str, str]) -> Eraser:
    return registry.load("erasers", name).preset(None, "object", settings)


def state(model: StableDiffusion) -> dict[str, torch.Tensor]:
    modules = {"text_encoder": model.text_encoder, "unet": model.pipeline.unet, "vae": model.pipeline.vae}
    parts = {part: module.state_dict() for part, module in modules.items()}
    parts["guidance"] = {} if model.guidance is None else dict(model.guidance.tensors)
    return {f"{part}.{name}": value.clone() for part, values in parts.items() for name, value in values.items()}


def changed(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], tolerance: float = 0.0) -> set[str]:
    both = {name for name in a.keys() & b.keys() if a[name].shape != b[name].shape or (a[name] - b[name]).abs().max() > tolerance}
    return both | (a.keys() ^ b.keys())


def pictures(model: StableDiffusion) -> torch.Tensor:
    return model.generate(["a photo of church", "dog"], [1, 2], num_inference_steps=3, guidance_scale=2.0)


def test_every_eraser_is_tested() -> None:
    assert set(CASES) == set(registry.names("erasers"))


@pytest.mark.parametrize("name", CASES)
def test_contract(model: StableDiffusion, words: Knowledge, name: str, tmp_path: Path) -> None:
    before, drawn = state(model), pictures(model)
    erasure = eraser_of(name, CASES[name].short).erase(model, [CHURCH], [words], seed=1)
    assert not changed(before, state(model)), "the base model is untouched"
    safe = erasure.apply(model)
    assert not changed(before, state(model)), "applying leaves it untouched too"
    difference = changed(before, state(safe))
    assert difference
    if name in GROUP_OF:
        allowed = {f"unet.{n}" for n in group_names(model.pipeline.unet, GROUP_OF[name])}
        assert difference <= allowed, "only the declared parameters change"
    elif name == "receler":
        assert all(".attn2.adapter." in n for n in difference), "adapters stand beside weights that stay as they are"
    elif name in GUIDED:
        assert all(n.startswith("guidance.") for n in difference), "no weight changes"
    else:
        assert all(n.startswith("text_encoder.") and "embeddings." not in n for n in difference)
    again = eraser_of(name, CASES[name].short).erase(model, [CHURCH], [words], seed=1).apply(model)
    assert not changed(state(safe), state(again)), "same seed, same bytes"
    assert (pictures(safe) - drawn).abs().max() > 1e-4

    recipe = erasure.recipe
    assert recipe["method"] == name
    assert recipe["paper"].startswith("arXiv")
    assert (recipe["cost"]["trained_parameters"] > 0) == (name not in GUIDED)
    assert recipe["cost"]["text_encoder_rows"] > 0
    assert recipe["seconds"] >= 0
    erasure.save_pretrained(tmp_path / "safe")
    loaded = Erasure.from_pretrained(tmp_path / "safe").apply(model)
    assert not changed(state(safe), state(loaded)), "save, load, apply: the same weights"
    assert fingerprint(loaded) == fingerprint(safe) != fingerprint(model)
    torch.testing.assert_close(pictures(loaded), pictures(safe))


@pytest.mark.parametrize("name", CASES)
def test_no_strength_changes_nothing(model: StableDiffusion, words: Knowledge, name: str) -> None:
    safe = eraser_of(name, {**CASES[name].short, **CASES[name].off}).erase(model, [CHURCH], [words]).apply(model)
    torch.testing.assert_close(pictures(safe), pictures(model), atol=1e-4, rtol=1e-4)
    other = {n for n in changed(state(model), state(safe), tolerance=1e-6) if n in state(model)}
    assert not other, "what the model had is as it was"


@pytest.mark.parametrize("name", CASES)
def test_several_concepts_at_once(model: StableDiffusion, words: Knowledge, name: str) -> None:
    boats = Knowledge(source="test", related=("boat",), unrelated=("dog", "tree"), replacements=("tree",))
    both = eraser_of(name, CASES[name].short).erase(model, [CHURCH, Concept(name="boat")], [words, boats])
    assert [c["name"] for c in both.recipe["concepts"]] == ["church", "boat"]
    one = eraser_of(name, CASES[name].short).erase(model, [CHURCH], [words])
    assert changed(state(one.apply(model)), state(both.apply(model)))


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_told(model: StableDiffusion, words: Knowledge, name: str) -> None:
    with pytest.raises(InputError, match="Unknown preset"):
        registry.load("erasers", name).preset("nonsense", "object")
    with pytest.raises(InputError, match="Unknown setting"):
        registry.load("erasers", name).preset(None, "object", {"nonsense": "1"})
    with pytest.raises(InputError, match="at least one concept"):
        eraser_of(name, CASES[name].short).erase(model, [], [])
    with pytest.raises(InputError, match="word lists for each"):
        eraser_of(name, CASES[name].short).erase(model, [CHURCH], [words, words])


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_taken_only_where_the_matrix_says_so(
    model: StableDiffusion, words: Knowledge, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, backward, grad = [], torch.Tensor.backward, torch.autograd.grad
    monkeypatch.setattr(torch.Tensor, "backward", lambda *a, **k: taken.append(1) or backward(*a, **k))
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: taken.append(1) or grad(*a, **k))
    eraser = eraser_of(name, CASES[name].short)
    eraser.erase(model, [CHURCH], [words])
    assert bool(taken) == (eraser.access == "gradients")


@pytest.mark.parametrize("name", CASES)
def test_every_preset_can_be_made(name: str) -> None:
    kind = registry.load("erasers", name)
    for preset in kind.presets:
        assert kind.preset(preset, "object").config is not None


def test_closed_form_minimises_its_objective() -> None:
    rng = np.random.default_rng(0)
    inputs, like, kept = (torch.tensor(rng.normal(size=(n, 6))) for n in (5, 5, 9))
    matrices = [torch.tensor(rng.normal(size=(m, 6))) for m in (4, 3)]
    edited = edit_matrices(matrices, [Wish(inputs, like, 2.0), Wish(kept, kept, 0.5)], ridge=0.3)
    for before, after in zip(matrices, edited, strict=True):
        # an ordinary least-squares problem: weighted rows, the ridge as six more
        rows = np.vstack([np.sqrt(2.0) * inputs.numpy(), np.sqrt(0.5) * kept.numpy(), np.sqrt(0.3) * np.eye(6)])
        answers = [2.0**0.5 * like @ before.T, 0.5**0.5 * kept @ before.T, 0.3**0.5 * before.T]
        wanted = np.vstack([answer.numpy() for answer in answers])
        reference = np.linalg.lstsq(rows, wanted, rcond=None)[0].T
        np.testing.assert_allclose(after.numpy(), reference, atol=1e-10)


def test_an_ill_conditioned_edit_is_told() -> None:
    inputs = torch.ones(1, 4, dtype=torch.float64) * 1e8
    with pytest.raises(InputError, match="ill-conditioned"):
        edit_matrices([torch.eye(4)], [Wish(inputs, 0 * inputs, 1.0)], ridge=1e-9)


def test_recovering_states_are_the_best_answer() -> None:
    rng = np.random.default_rng(1)
    before, after = ([torch.tensor(rng.normal(size=(m, 5))) for m in (4, 7)] for _ in range(2))
    states = torch.tensor(rng.normal(size=(3, 5)))
    found = recovering_states(before, after, states, ridge=0.2)
    rows = np.vstack([*(a.numpy() for a in after), np.sqrt(0.2) * np.eye(5)])
    for state_, answer in zip(states.numpy(), found.numpy(), strict=True):
        wanted = np.concatenate([*(b.numpy() @ state_ for b in before), np.zeros(5)])
        np.testing.assert_allclose(answer, np.linalg.lstsq(rows, wanted, rcond=None)[0], atol=1e-10)


def test_uce_makes_the_concept_answer_like_the_guide(model: StableDiffusion, words: Knowledge) -> None:
    settings = {"guide": "dog", "ridge": "1e-3", "n_preserve": "4"}
    safe = eraser_of("uce", settings).erase(model, [CHURCH], [words]).apply(model)
    name = group_names(model.pipeline.unet, "cross_attention_kv")[0]
    old, new = (m.pipeline.unet.get_parameter(name) for m in (model, safe))
    church, dog, tree = last_word_states(model, ["church", "dog", "tree"])
    assert (new @ church - old @ dog).norm() < 0.1 * (old @ church - old @ dog).norm()
    assert (new @ tree - old @ tree).norm() < 0.5 * (old @ church - old @ dog).norm()


def test_rece_edits_what_recovers_the_concept_and_keeps_the_concept_erased_together() -> None:
    rng = torch.Generator().manual_seed(0)
    matrices = [torch.randn(9, 6, dtype=torch.float64, generator=rng) for _ in range(2)]
    concept, guide, other = (torch.randn(1, 6, dtype=torch.float64, generator=rng) for _ in range(3))
    kept = torch.cat([guide, other])
    wishes = [Wish(concept, guide, 1.0), Wish(kept, kept, 1.0)]

    def misses(edited: list[torch.Tensor], state_: torch.Tensor) -> float:
        return sum(float((new @ state_.T - old @ guide.T).norm()) for new, old in zip(edited, matrices, strict=True))

    first = edit_matrices(matrices, wishes, 0.01)
    again = recovering_states(matrices, first, concept, 0.1)
    alone, together = (RECE(RECEConfig(epochs=1, ridge=0.01, together=both)).edit(matrices, wishes) for both in (False, True))
    assert misses(alone, again) < 0.1 * misses(first, again)
    assert misses(together, again) < 0.1 * misses(first, again)
    assert misses(together, concept) < 0.1 * misses(alone, concept)
    for new, wanted in zip(alone, edit_matrices(first, [Wish(again, guide, 1.0), wishes[1]], 0.01), strict=True):
        torch.testing.assert_close(new, wanted)


def test_tail_states_line_up(model: StableDiffusion) -> None:
    left, right = tail_states(model, ["church", "a church"], ["a photo of dog", "dog"])
    assert left.shape == right.shape
    whole = model.encode(model.tokenize(["church"]).ids)[0]
    other = model.tokenize(["a photo of dog"])
    start = int(other.end[0]) - 1
    n = model.text_length - start
    torch.testing.assert_close(left[:n], whole[int(model.tokenize(["church"]).end[0]) - 1 :][:n])
    torch.testing.assert_close(right[:n], model.encode(other.ids)[0, start:])


@pytest.mark.parametrize("preserve", ["words", "prompts"])
def test_uce_of_2023_keeps_every_state_of_the_kept_texts(model: StableDiffusion, words: Knowledge, preserve: str) -> None:
    settings = {"rows": "tail", "n_preserve": "4", "preserve": preserve}
    erased, kept = wishes_of(model, UCEConfig(**settings), [CHURCH], [words])
    texts = kept_texts(UCEConfig(**settings), [CHURCH], [words])
    assert len(texts) == 4
    assert not any("church" in text for text in texts)
    assert kept.inputs.shape == (5 * model.text_length, erased.inputs.shape[1])  # with the empty text
    torch.testing.assert_close(kept.inputs[: model.text_length], model.encode(model.tokenize([""]).ids)[0])
    torch.testing.assert_close(kept.inputs, kept.like)
    assert len(wishes_of(model, UCEConfig(rows="last"), [CHURCH], [words])) == 1


def test_a_shared_copy_holds_only_what_changes(model: StableDiffusion) -> None:
    unet = model.pipeline.unet
    name = group_names(unet, "cross_attention_kv")[0]
    value = torch.zeros_like(unet.get_parameter(name))
    clone = shared_copy(unet, {name: value})
    assert clone.get_parameter(name).data_ptr() == value.data_ptr()
    pairs = zip(unet.named_parameters(), clone.parameters(), strict=True)
    assert all(a.data_ptr() == b.data_ptr() for (n, a), b in pairs if n != name)
    assert unet.get_parameter(name).abs().sum() > 0
    with pytest.raises(ValueError, match="has the shape"):
        shared_copy(unet, {name: torch.zeros(1)})
    with pytest.raises(KeyError):
        shared_copy(unet, {"nonsense": value})


def test_parameter_groups(model: StableDiffusion) -> None:
    unet = model.pipeline.unet
    groups = {name: set(group_names(unet, name)) for name in GROUPS}
    assert groups["cross_attention_kv"] < groups["cross_attention"]
    assert groups["cross_attention"] | groups["self_attention"] == groups["attention"]
    assert groups["cross_attention"] | groups["not_cross_attention"] == groups["all"]
    assert not groups["self_attention"] & groups["cross_attention"]
    assert groups["all"] == set(dict(unet.named_parameters()))
    with pytest.raises(InputError, match="did you mean 'cross_attention'"):
        group_names(unet, "cross_atention")


def test_an_erasure_of_another_model_is_told(model: StableDiffusion, words: Knowledge, tmp_path: Path) -> None:
    erasure = eraser_of("uce", {}).erase(model, [CHURCH], [words])
    wrong = Erasure(erasure.recipe, None, unet={"nonsense": torch.zeros(2)})
    with pytest.raises(InputError, match="made for another model"):
        wrong.apply(model)
    erasure.save_pretrained(tmp_path / "safe")
    file = tmp_path / "safe" / "unet.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="changed or damaged"):
        Erasure.from_pretrained(tmp_path / "safe")


@pytest.mark.parametrize("sample_from", ["frozen", "edited"])
def test_esd_makes_no_more_calls_than_it_needs(model: StableDiffusion, words: Knowledge, sample_from: str) -> None:
    settings = {"iterations": "3", "batch": "2", "pool": "4", "num_inference_steps": "4", "sample_from": sample_from}
    cost = eraser_of("esd", settings).erase(model, [CHURCH], [words]).recipe["cost"]
    assert cost["text_encoder_calls"] == 2
    drawn = 4 if sample_from == "frozen" else 3 * 2
    fixed = 3 * 2 + 2 * drawn  # student steps, and two outputs of the teacher for each sample
    assert fixed <= cost["unet_rows"] <= fixed + 2 * 3 * drawn, "a sample stops before its fourth guided step"


def test_both_forms_of_esd_agree_where_they_should(model: StableDiffusion, words: Knowledge) -> None:
    common = {**CASES["esd"].short, "group": "x-strict"}
    a = eraser_of("esd", {**common, "form": "A", "strength": "1"}).erase(model, [CHURCH], [words])
    b = eraser_of("esd", {**common, "form": "B", "strength": "2"}).erase(model, [CHURCH], [words])
    for name, value in a.unet.items():
        torch.testing.assert_close(value, b.unet[name], atol=2e-5, rtol=1e-3)


def test_rolling_each_row_to_its_own_stop(model: StableDiffusion) -> None:
    states, empty = model.encode(model.tokenize(["church", "dog", "tree"]).ids), model.encode(model.tokenize([""]).ids)
    noise = model.initial_noise([1, 2, 3])
    stops = [2, 0, 5]
    rows, timesteps = model.roll_each(noise, states, empty, 5, stops, 2.0)
    for i, stop in enumerate(stops):
        alone, following = model.roll(noise[i : i + 1], states[i : i + 1], empty, 5, stop, 2.0)
        torch.testing.assert_close(rows[i : i + 1], alone, atol=1e-5, rtol=1e-4)
        if following >= 0:
            assert timesteps[i] == following
    model.calls.unet_rows = 0
    model.roll_each(noise, states, empty, 5, stops, 2.0)
    assert model.calls.unet_rows == 2 * sum(stops)


def test_a_large_pool_is_drawn_in_parts(model: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = model.encode(model.tokenize(["church", "dog", "tree", "boat", "house"]).ids)
    empty = model.encode(model.tokenize([""]).ids)

    def pool() -> tuple[torch.Tensor, ...]:
        generator = torch.Generator().manual_seed(0)
        latents, timesteps, noise = partial_samples(model, texts, empty, generator, num_inference_steps=5, guidance_scale=2.0)
        return latents, timesteps, noise, *outputs(model, latents, timesteps, [texts, empty.expand_as(texts)])

    whole = pool()
    monkeypatch.setattr("sgrace.erasers._shared.partial_samples.ROLL_BATCH", 2)
    for part, expected in zip(pool(), whole, strict=True):
        torch.testing.assert_close(part, expected, atol=1e-5, rtol=1e-4)


def test_race_attacks_within_its_box_and_lowers_the_noise_error(model: StableDiffusion) -> None:
    race = eraser_of("race", {"plain_iterations": "0", "attack_steps": "8", "radius": "0.2"})
    states = model.encode(model.tokenize(["church", "dog"]).ids)
    noise = model.initial_noise([1, 2])
    timesteps = torch.tensor([500, 700])
    samples = Samples(model.noised(torch.zeros_like(noise), noise, timesteps), timesteps, states, noise, noise)
    attacked = race.condition(model, samples, 0, torch.Generator().manual_seed(0))
    assert (attacked - states).abs().max() <= 0.2 + 1e-6
    assert attacked.amax((1, 2)).le(states.amax((1, 2)) + 1e-6).all()

    def error(text: torch.Tensor) -> float:
        found = model.noise_of(model.predict(samples.latents, timesteps, text), samples.latents, timesteps)
        return (found - noise).square().mean().item()

    assert error(attacked) < error(states)
    assert race.condition(model, samples, 0, torch.Generator().manual_seed(0)).equal(attacked)
