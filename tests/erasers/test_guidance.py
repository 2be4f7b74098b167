"""Methods that steer the sampling, SLD and SAFREE: their formulas, their cost, and an erasure without weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from sgrace._util.errors import InputError
from sgrace._util.hashing import sha256
from sgrace.api import fingerprint
from sgrace.cli import main
from sgrace.concept import Concept
from sgrace.erasers._shared.prompts import joined_phrases
from sgrace.erasers.safree import SAFREE, Prompt, orthonormal, turned_away, variants
from sgrace.erasers.sld import SLD, SLDConfig, SLDGuidance, SLDSampling, safety_term
from sgrace.erasure import Erasure
from sgrace.knowledge import Knowledge
from sgrace.models import StableDiffusion

from .conftest import tiny_pipeline

CHURCH, BOAT = Concept(name="church"), Concept(name="boat")
STRONG = {"warm_up": "10", "scale": "3", "threshold": "0.2", "momentum_scale": "0.5", "momentum": "0.6"}
ALWAYS = {"filter_steps": "50", "middle": "-10"}


def states_of(model: StableDiffusion, *texts: str) -> torch.Tensor:
    with torch.no_grad():
        return model.encode(model.tokenize(list(texts)).ids)


# -- SLD --------------------------------------------------------------------------------------------------------------


def test_a_roll_under_sld_is_its_formula(model: StableDiffusion, words: Knowledge) -> None:
    safe = SLD.preset(None, "object", STRONG).erase(model, [CHURCH], [words]).apply(model)
    states, empty, safety = states_of(model, "a photo of church", "dog"), states_of(model, ""), states_of(model, "church, chapel")
    noise, unet = model.initial_noise([1, 2]), model.pipeline.unet
    found, _ = safe.roll(noise, states, empty, 5, 5, 4.0)
    scheduler = model.pipeline.scheduler
    scheduler.set_timesteps(5)
    for i in range(2):
        latents, velocity = noise[i : i + 1], np.zeros(noise[:1].shape)
        for step, timestep in enumerate(scheduler.timesteps):
            with torch.no_grad():
                outputs = [unet(latents, timestep, text).sample.double().numpy() for text in (empty, states[i : i + 1], safety)]
            nothing, prompt, away = outputs
            strength = np.where(prompt - away < 0.2, np.minimum(3 * np.abs(prompt - away), 1), 0)
            term = strength * (away - nothing) + 0.5 * velocity
            velocity = 0.6 * velocity + 0.4 * term
            output = nothing + 4.0 * (prompt - nothing - (term if step >= 1 else 0))  # ten steps of fifty are one of five
            latents = scheduler.step(torch.tensor(output, dtype=torch.float32), timestep, latents).prev_sample
        torch.testing.assert_close(found[i : i + 1], latents, atol=1e-4, rtol=1e-3)


def test_the_safety_term_has_a_threshold_and_a_ceiling() -> None:
    prompt, safety, nothing = (torch.tensor(v) for v in ([0.0, 0.0, 0.0, 0.0], [1.0, 0.1, -0.1, -1.0], [0.5, 0.5, 0.5, 0.5]))
    found = safety_term(nothing, prompt, safety, 5.0, 0.3)
    torch.testing.assert_close(found, torch.tensor([1.0 * 0.5, 0.5 * -0.4, 0.5 * -0.6, 0.0]))


def test_sld_asks_for_three_rows_and_never_mixes_them(model: StableDiffusion, words: Knowledge) -> None:
    erasure = SLD.preset("max", "object").erase(model, [CHURCH, BOAT], [words, words])
    assert erasure.recipe["text"] == "church, boat, chapel"
    assert erasure.recipe["cost"]["text_encoder_calls"] == 1
    assert erasure.recipe["cost"]["unet_calls"] == 0
    safe = erasure.apply(model)
    states, empty, noise = states_of(model, "church", "dog", "tree"), states_of(model, ""), model.initial_noise([1, 2, 3])
    for guidance_scale in (1.0, 2.0):
        safe.calls.unet_rows = safe.calls.unet_calls = 0
        together, _ = safe.roll(noise, states, empty, 4, 4, guidance_scale)
        assert (safe.calls.unet_calls, safe.calls.unet_rows) == (4, 4 * 3 * 3)
        assert safe.sampling_rows(states, guidance_scale) == (9, 0)
        alone, _ = safe.roll(noise[1:2], states[1:2], empty, 4, 4, guidance_scale)
        torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-4)
    rows, _ = safe.roll_each(noise, states, empty, 4, [1, 4, 2], 2.0)
    for i, stop in enumerate((1, 4, 2)):
        alone, _ = safe.roll(noise[i : i + 1], states[i : i + 1], empty, 4, stop, 2.0)
        torch.testing.assert_close(rows[i : i + 1], alone, atol=1e-5, rtol=1e-4)


def test_the_safety_text_is_cut_between_phrases_and_names_come_first(model: StableDiffusion, words: Knowledge) -> None:
    many = words.model_copy(update={"related": tuple("a " * n + "dog" for n in range(1, 9))})
    text = joined_phrases(model, [CHURCH, BOAT], [many, many])
    assert text.startswith("church, boat, a dog, a a dog")
    assert len(model.content_tokens(text)) <= model.text_length - 2 < len(model.content_tokens(f"{text}, a a a a dog"))
    long = [Concept(name="a " * n + "tree") for n in range(5, 9)]
    with pytest.raises(InputError, match="give fewer concepts"):
        joined_phrases(model, long, [words] * 4)
    own = SLD.preset(None, "object", {"text": "a house"}).erase(model, [CHURCH], [words])
    torch.testing.assert_close(own.guidance.tensors["safety"], states_of(model, "a house")[0])


# -- SAFREE -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("onward", [False, True])
def test_turning_away_is_its_formula(onward: bool) -> None:
    rng = np.random.default_rng(0)
    states, pooled = rng.normal(size=(3, 8, 10)), rng.normal(size=(3, 8, 10))
    present = np.zeros((3, 8), dtype=bool)
    for i, n in enumerate((4, 1, 5)):
        present[i, 1 : 1 + n] = True
    pooled[~present] = 0
    phrases = rng.normal(size=(4, 10))
    phrases[3] = phrases[0] + phrases[1]  # of no use to the span
    span = orthonormal(torch.tensor(phrases))
    assert span.shape == (3, 10)
    found, change = turned_away(*(torch.tensor(x) for x in (states, pooled, present)), span, 0.01, onward=onward)
    concept = phrases[:3].T @ np.linalg.inv(phrases[:3] @ phrases[:3].T) @ phrases[:3]
    for i in range(3):
        places = np.flatnonzero(present[i])
        rows = pooled[i, places]
        inside = rows.T @ np.linalg.inv(rows @ rows.T) @ rows
        distance = np.linalg.norm(rows - rows @ concept, axis=1)
        expected, first = states[i].copy(), None
        for k, place in enumerate(places):
            others = np.delete(distance, k)
            if len(others) == 0 or distance[k] >= 1.01 * others.mean():
                expected[place] = (np.eye(10) - concept) @ inside @ states[i, place]
                first = place if first is None else first
            elif onward and first is not None:
                expected[place] = (np.eye(10) - concept) @ states[i, place]
        if onward:
            tail = slice(places[-1] + 1, None)
            expected[tail] = states[i, tail] @ (np.eye(10) - concept)
        np.testing.assert_allclose(found[i].numpy(), expected, atol=1e-10)
        cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(expected[places], states[i, places], strict=True)]
        assert change[i].item() == pytest.approx(1 - np.mean(cosines))


@pytest.mark.parametrize("leave_out", [False, True])
@pytest.mark.parametrize("embedded", [False, True])
def test_variants_lack_one_token_each(model: StableDiffusion, leave_out: bool, embedded: bool) -> None:
    texts = ["a photo of church", "dog"]
    tokens = model.tokenize(texts)
    embeddings = [model.embed(row).detach() if embedded and i == 0 else None for i, row in enumerate(tokens.ids)]
    prompts = [Prompt(ids, end, e) for ids, end, e in zip(tokens.ids, tokens.end.tolist(), embeddings, strict=True)]
    model.calls.text_encoder_calls = 0
    pooled, present = variants(model, prompts, leave_out=leave_out)
    assert model.calls.text_encoder_calls == 1
    for i, text in enumerate(texts):
        content = model.content_tokens(text)
        assert present[i].nonzero().flatten().tolist() == list(range(1, len(content) + 1))
        for k in range(len(content)):
            other = model.assemble([content[:k] + ([] if leave_out else [0]) + content[k + 1 :]])
            with torch.no_grad():
                expected = model.encode(other.ids)[0, int(other.end[0])]
            torch.testing.assert_close(pooled[i, k + 1], expected, atol=1e-5, rtol=1e-4)
    assert pooled[~present].abs().sum() == 0


def test_a_prompt_is_filtered_for_its_first_steps(model: StableDiffusion, words: Knowledge) -> None:
    settings = {**ALWAYS, "filter_steps": "25", "without": "left out", "reach": "onward"}
    safe = SAFREE.preset(None, "object", settings).erase(model, [CHURCH], [words]).apply(model)
    states, empty, noise = states_of(safe, "a photo of church", "tree"), states_of(model, ""), model.initial_noise([1, 2])
    prompts = safe.guidance.prompts(states[[1, 0]])
    assert [p.end for p in prompts.values()] == [2, 1 + len(model.content_tokens("a photo of church"))], "rows are known by what they hold"
    pooled, present = variants(model, list(safe.guidance.prompts(states).values()), leave_out=True)
    turned, _ = turned_away(states, pooled, present, safe.guidance.tensors["span"], 0.01, onward=True)
    assert ((turned - states).abs().amax((1, 2)) > 1e-3).all()
    found, _ = safe.roll(noise, states, empty, 4, 4, 2.0)
    half, _ = model.roll(noise, turned.float(), empty, 4, 2, 2.0)
    expected, _ = model.roll(half, states, empty, 4, 4, 2.0, start=2)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    rows, _ = safe.roll_each(noise, states, empty, 4, [1, 4], 2.0)
    torch.testing.assert_close(rows[1:], expected[1:], atol=1e-5, rtol=1e-4)


def test_safree_filters_embeddings_and_leaves_states_of_unknown_origin(model: StableDiffusion, words: Knowledge) -> None:
    safe = SAFREE.preset(None, "object", ALWAYS).erase(model, [CHURCH], [words]).apply(model)
    empty, noise, ids = states_of(model, ""), model.initial_noise([1]), model.tokenize(["a photo of church"]).ids
    with torch.no_grad():
        soft = safe.encode(ids, safe.embed(ids) + 0.5)
    assert not safe.roll(noise, soft, empty, 3, 3, 2.0)[0].equal(model.roll(noise, soft, empty, 3, 3, 2.0)[0])
    other = soft + 1e-3
    assert safe.roll(noise, other, empty, 3, 3, 2.0)[0].equal(model.roll(noise, other, empty, 3, 3, 2.0)[0])
    nothing = states_of(safe, "")
    assert safe.roll(noise, nothing, empty, 3, 3, 2.0)[0].equal(model.roll(noise, nothing, empty, 3, 3, 2.0)[0])


def test_safree_makes_no_more_calls_than_it_needs(model: StableDiffusion, words: Knowledge) -> None:
    erasure = SAFREE.preset("as_released", "object", ALWAYS).erase(model, [CHURCH, BOAT], [words, words])
    assert erasure.recipe["cost"]["text_encoder_calls"] == 2
    safe = erasure.apply(model)
    states = states_of(safe, "a photo of church", "dog", "")
    n = len(model.content_tokens("a photo of church")) + 1
    assert safe.sampling_rows(states, 2.0) == (6, n)
    safe.calls.text_encoder_calls = safe.calls.text_encoder_rows = safe.calls.unet_rows = 0
    found, _ = safe.roll(model.initial_noise([1, 2, 3]), states, states_of(model, ""), 3, 3, 2.0)
    assert (safe.calls.text_encoder_calls, safe.calls.text_encoder_rows, safe.calls.unet_rows) == (1, n, 3 * 6)
    negative = states_of(model, "church, boat, chapel")
    plain, _ = model.roll(model.initial_noise([3]), states[2:], negative, 3, 3, 2.0)
    torch.testing.assert_close(found[2:], plain, atol=1e-5, rtol=1e-4)


def test_the_filter_takes_as_many_steps_as_its_sigmoid_says(model: StableDiffusion, words: Knowledge) -> None:
    safe = SAFREE.preset(None, "object", {"middle": "0.7", "slope": "0.4"}).erase(model, [CHURCH], [words]).apply(model)
    states = states_of(safe, "a photo of church", "chapel", "dog tree boat")
    sampling = safe.guidance.sampling(safe, states, states[:1], 2.0, 200)
    pooled, present = variants(model, list(safe.guidance.prompts(states).values()), leave_out=False)
    _, change = turned_away(states, pooled, present, safe.guidance.tensors["span"], 0.01)
    expected = [round(40 / (1 + np.exp(-2 * 0.4 * (10 * b - 0.7)))) for b in change.tolist()]  # ten steps of fifty are forty of two hundred
    assert sampling.steps.tolist() == expected
    assert len(set(expected)) > 1


# -- an erasure without weights ---------------------------------------------------------------------------------------


def test_settings_and_tensors_are_one_file_and_change_the_fingerprint(model: StableDiffusion, words: Knowledge, tmp_path: Path) -> None:
    one, other = (SLD.preset(p, "object").erase(model, [CHURCH], [words]) for p in ("weak", "strong"))
    assert fingerprint(one.apply(model)) != fingerprint(other.apply(model))
    one.save_pretrained(tmp_path / "safe")
    assert sorted(p.name for p in (tmp_path / "safe").iterdir()) == ["guidance.safetensors", "recipe.json"]
    loaded = Erasure.from_pretrained(tmp_path / "safe")
    assert loaded.guidance.config == one.guidance.config
    with pytest.raises(InputError, match="steered by sld already"):
        other.apply(loaded.apply(model))
    with pytest.raises(InputError, match="not 24 wide"):
        Erasure({}, None, guidance=SLDGuidance(SLDConfig(), {"safety": torch.zeros(20, 8)})).apply(model)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "holds no guidance"),
        ({"guidance": "sdl", "settings": "{}"}, "did you mean 'sld'"),
        ({"guidance": "sld", "settings": '{"scale": -1}'}, "greater than or equal to 0"),
        ({"guidance": "sld", "settings": "no json"}, "holds no guidance"),
    ],
)
def test_bad_files_are_told(model: StableDiffusion, words: Knowledge, tmp_path: Path, header: dict[str, str] | None, message: str) -> None:
    folder = tmp_path / "safe"
    SLD.preset("weak", "object").erase(model, [CHURCH], [words]).save_pretrained(folder)
    file = folder / "guidance.safetensors"
    save_file(load_file(file), file, metadata=header)
    with pytest.raises(InputError, match="changed or damaged"):
        Erasure.from_pretrained(folder)
    recipe = json.loads((folder / "recipe.json").read_text())
    recipe["sha256"]["guidance.safetensors"] = sha256(file)
    (folder / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(InputError, match=message):
        Erasure.from_pretrained(folder)


@pytest.mark.parametrize("method", ["sld", "safree"])
def test_the_commands_take_guidance_like_weights(tmp_path: Path, method: str) -> None:
    tiny_pipeline().save_pretrained(tmp_path / "tiny")
    (tmp_path / "words.txt").write_text("church\nchapel\n\ndog, tree\nboat, house\n")
    (tmp_path / "prompts.csv").write_text("seed,prompt\n5,a photo of church\n6,church\n")
    given = ["--knowledge", str(tmp_path / "words.txt")]
    out = str(tmp_path / "safe")

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(main, list(arguments))
        assert done.exit_code == 0, done.output
        return done.stdout

    run("erase", "church", "--model", str(tmp_path / "tiny"), "--method", method, "--out", out, *given, "--json")
    run("generate", "church", "--model", str(tmp_path / "tiny"), "--erasure", out, "--steps", "2", "--out", str(tmp_path / "a.png"))
    scene = [out, "--prompts", str(tmp_path / "prompts.csv"), *given, "--detector", "never"]
    names = "more_seeds,noise_probe,ring_a_bell_soft"
    rows = json.loads(run("attack", *scene, "--budget", "quick", "--attack", names, "--out", str(tmp_path / "sets"), "--json"))["attacks"]
    per_step = {"sld": (3, 3), "safree": (2, 1)}[method]
    probe = next(row for row in rows if row["attack"] == "noise_probe")
    plain = 2 * 25  # two pictures: once drawn by the target, once by the original, then twice noised to seven tenths
    assert probe["unet_rows"] == plain * per_step[0] + plain * 2 + 2 * 2 * 18 * per_step[1]
    run("evaluate", *scene, "--suite", "quick", "--attacks", "none", "--out", str(tmp_path / "report"))


def test_sampling_goes_on_with_the_momentum_of_its_rows(model: StableDiffusion) -> None:
    states = states_of(model, "church", "dog", "tree")
    sampling = SLDSampling(model, states, states[:1], 2.0, 3, config=SLDConfig(warm_up=0), safety=states[0])
    sampling.output(model.initial_noise([1, 2, 3]), 500, 0)
    momentum = sampling.momentum
    sampling.keep([2, 0])
    assert sampling.momentum.equal(momentum[[2, 0]])
    assert sampling.states.equal(states[[2, 0]])
