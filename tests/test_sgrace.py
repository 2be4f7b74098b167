from __future__ import annotations

import hashlib
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.erasers._shared.embedding_attack import attack_embeddings
from sgrace.erasers.sgrace import SGrace, SGraceConfig
from sgrace.erasers.sgrace.config import PRESETS
from sgrace.erasers.sgrace.eraser import _Run, expected_calls
from sgrace.erasure import Erasure
from sgrace.knowledge import Knowledge
from sgrace.models import StableDiffusion

SHORT = {"rounds": "2", "attack_steps": "2", "edit_steps": "3", "n_adversarial": "3", "n_anchors": "4", "num_inference_steps": "10"}
CHURCH = Concept(name="church")


def digest(model: StableDiffusion) -> str:
    parts = (model.pipeline.text_encoder, model.pipeline.unet, model.pipeline.vae)
    return hashlib.sha256(b"".join(p.numpy().tobytes() for part in parts for p in part.state_dict().values())).hexdigest()


def weights(erasure: Erasure) -> dict[str, torch.Tensor]:
    return erasure.text_encoder.state_dict()


@pytest.mark.parametrize("preset", PRESETS)
def test_contract(model: StableDiffusion, words: Knowledge, preset: str) -> None:
    config = SGraceConfig.preset(preset, "object", SHORT)
    before = digest(model)
    erasure = SGrace(config).erase(model, [CHURCH], [words], seed=1)
    assert digest(model) == before, "the base model is untouched"
    again = SGrace(config).erase(model, [CHURCH], [words], seed=1)
    assert all(torch.equal(a, b) for a, b in zip(weights(erasure).values(), weights(again).values(), strict=True)), "same seed, same bytes"
    other = SGrace(config).erase(model, [CHURCH], [words], seed=2)
    assert any(not torch.equal(a, b) for a, b in zip(weights(erasure).values(), weights(other).values(), strict=True))
    original = model.pipeline.text_encoder.state_dict()
    changed = {name for name, value in weights(erasure).items() if not torch.equal(value, original[name])}
    assert changed
    assert not any("embeddings." in name for name in changed), "only the declared parameters change"


@pytest.mark.parametrize("preset", PRESETS)
def test_no_rounds_change_nothing(model: StableDiffusion, words: Knowledge, preset: str) -> None:
    erasure = SGrace(SGraceConfig.preset(preset, "object", {**SHORT, "rounds": "0"})).erase(model, [CHURCH], [words])
    original = model.pipeline.text_encoder.state_dict()
    assert all(torch.equal(value, original[name]) for name, value in weights(erasure).items())


@pytest.mark.parametrize("preset", PRESETS)
def test_rounds_make_no_more_calls_than_the_algorithm_needs(model: StableDiffusion, words: Knowledge, preset: str) -> None:
    def cost(rounds: int) -> dict[str, int]:
        config = SGraceConfig.preset(preset, "object", {**SHORT, "rounds": str(rounds)})
        erasure = SGrace(config).erase(model, [CHURCH], [words])
        surrogate_states = rounds * (config.erase_target == "surrogate")
        need = expected_calls(config)
        assert erasure.recipe["config"]["rounds"] == rounds
        return {k: erasure.recipe["cost"][k] - need[k] - (surrogate_states if k == "text_encoder_calls" else 0) for k in need}

    assert cost(1) == cost(3)  # what remains is the constant set-up


def test_several_concepts_at_once(model: StableDiffusion, words: Knowledge) -> None:
    boats = Knowledge(source="test", related=("boat",), unrelated=("dog", "tree"), replacements=("tree",))
    erasure = SGrace(SGraceConfig.preset("surrogate", "object", SHORT)).erase(model, [CHURCH, Concept(name="boat")], [words, boats])
    assert [c["name"] for c in erasure.recipe["concepts"]] == ["church", "boat"]
    assert "boat" not in erasure.recipe["knowledge"][0]["unrelated"], "a concept of the set is no anchor of another"


def test_surrogate_mapping_brings_the_concept_to_its_surrogate(model: StableDiffusion, words: Knowledge) -> None:
    config = SGraceConfig.preset("surrogate", "object", {**SHORT, "rounds": "3", "edit_steps": "60", "lr": "0.002", "surrogate": "house"})
    safe = SGrace(config).erase(model, [CHURCH], [words]).apply(model)

    def states(adapter: StableDiffusion, text: str) -> torch.Tensor:
        return adapter.encode(adapter.tokenize([text]).ids)

    goal = states(model, "a photo of house")
    before = (states(model, "a photo of church") - goal).square().mean()
    after = (states(safe, "a photo of church") - goal).square().mean()
    kept = (states(safe, "a photo of dog") - states(model, "a photo of dog")).square().mean()
    assert after < before / 4
    assert kept < before / 4


def test_save_load_apply_and_tampering(model: StableDiffusion, words: Knowledge, tmp_path) -> None:
    erasure = SGrace(SGraceConfig.preset("surrogate", "object", SHORT)).erase(model, [CHURCH], [words])
    erasure.save_pretrained(tmp_path / "safe")
    again = Erasure.from_pretrained(tmp_path / "safe")
    ids = model.tokenize(["a photo of church"]).ids
    assert torch.equal(again.apply(model).encode(ids), erasure.apply(model).encode(ids))
    with pytest.raises(InputError, match="not empty"):
        erasure.save_pretrained(tmp_path / "safe")
    file = tmp_path / "safe" / "text_encoder" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(InputError, match="changed or damaged"):
        Erasure.from_pretrained(tmp_path / "safe")
    with pytest.raises(InputError, match="not an erasure"):
        Erasure.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("optimizer", "projection"), list(itertools.product(["sign_pgd", "sign_adam", "adam"], ["ball", "ball_then_range", "none"]))
)
def test_attack_descends_and_keeps_to_its_ball_and_mask(optimizer: str, projection: str) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 5, 4, generator=generator)
    mask = torch.tensor([0.0, 1, 1, 1, 0]).view(1, 5, 1).expand(3, 5, 1)
    goal = torch.randn(3, 5, 4, generator=generator)

    def loss(x: torch.Tensor, _step: int) -> torch.Tensor:
        return (x - goal).square().mean()

    kept = start.clone()
    end = attack_embeddings(start, mask, loss, steps=10, lr=0.01, radius=0.04, optimizer=optimizer, projection=projection, around=start)
    assert torch.equal(start, kept), "the initial embeddings are never written to"
    assert loss(end, 0) < loss(start, 0)
    assert torch.equal(end[:, [0, 4]], start[:, [0, 4]])
    reach = (end - start).abs().max().item()
    assert reach <= 0.04 + 1e-6 if projection != "none" else reach > 0.04
    if projection == "ball_then_range":
        assert (end <= start.amax((1, 2), keepdim=True)).all()
        assert (end >= start.amin((1, 2), keepdim=True)).all()


def test_presets_differ_in_the_named_switches_only() -> None:
    published, corrected = (SGraceConfig.preset(p, "object").model_dump() for p in ("published", "corrected"))
    differing = {k for k in published if published[k] != corrected[k]}
    assert differing == {
        "latent_timestep", "attack_target", "feature_position", "attack_optimizer", "projection", "carry", "keep_bare_name",
        "anchors", "erase_target", "lr",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("preset", "given", "message"),
    [
        ("surogate", {}, "did you mean 'surrogate'"),
        ("surrogate", {"edit_step": "3"}, "did you mean 'edit_steps'"),
        ("surrogate", {"rounds": "-1"}, "rounds"),
        ("surrogate", {"lr": "fast"}, "lr"),
        ("published", {"carry": "perhaps"}, "carry"),
    ],
)
def test_bad_settings_are_named(preset: str, given: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SGraceConfig.preset(preset, "object", given)


@settings(deadline=None, max_examples=50)
@given(related=st.lists(st.sampled_from("abcdef")), unrelated=st.lists(st.sampled_from("defghi"), min_size=1))
def test_resolved_words_are_disjoint_and_without_repeats(related: list[str], unrelated: list[str]) -> None:
    knowledge = Knowledge(source="test", related=tuple(related), unrelated=tuple(unrelated))
    if set(unrelated) <= {*related, "x"}:
        with pytest.raises(InputError):
            knowledge.resolved("x")
        return
    resolved = knowledge.resolved("x")
    assert resolved.related[0] == "x"
    assert len(set(resolved.related)) == len(resolved.related)
    assert not set(resolved.related) & set(resolved.unrelated)
    assert resolved.overlap == ()
    assert set(resolved.unrelated) | set(resolved.related) == {*related, *unrelated, "x"}


def test_random_tokens_stand_in_a_sample_and_in_its_surrogates_prompt_alike(model: StableDiffusion) -> None:
    words = Knowledge(source="test", related=("church",), unrelated=("dog",), replacements=("house",), contexts=("a photo of {}",))
    config = SGraceConfig(**{**SHORT, "random_ids": 2, "n_adversarial": 6, "clean_share": 0.5, "surrogate": "house"})
    run = _Run(config, model, [CHURCH], [words], 0)
    rows, replaced = run._draw(run.targets[0], None, 6)
    for tokens, name in ((rows, "church"), (replaced, "house")):
        assert tokens.ids[3:].tolist() == model.tokenize([f"a photo of {name}"]).ids.tolist() * 3, "those without an attack are as drawn"
    shared = len(model.content_tokens("a photo of"))
    for i in range(3):
        parts = [
            (t.ids[i, 1 : t.end[i]].tolist(), model.content_tokens(f"a photo of {n}")) for t, n in ((rows, "church"), (replaced, "house"))
        ]
        places = [{at for at in range(shared + 1) if row[:at] + row[at + 2 :] == plain} for row, plain in parts]
        common = places[0] & places[1]
        assert common, "two more tokens, at the same place, before the word"
        assert all(parts[0][0][at : at + 2] == parts[1][0][at : at + 2] for at in common), "the same ones"
