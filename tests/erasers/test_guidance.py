"""Methods that steer the sampling, SLD and SAFREE: formulas, cost, and an erasure without weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from torch import Tensor

from sgrace._util.errors import InputError
from sgrace._util.hashing import sha256
from sgrace.cli import main
from sgrace.concept import Concept
from sgrace.erasers._shared.prompts import joined_phrases
from sgrace.erasers.safree import (
    SAFREE,
    SAFREEGuidance,
    SAFREESampling,
    Variants,
    orthonormal,
    projected_away,
    variants,
)
from sgrace.erasers.sld import SLD, SLDConfig, SLDGuidance, SLDSampling, safety_term
from sgrace.erasure import Erasure
from sgrace.evaluation.requests import fingerprint
from sgrace.knowledge import Knowledge, Target
from sgrace.models import Conditioning, DiffusionModel
from sgrace.models.guidance import Sampling, SamplingCost

from ..conftest import tiny_pipeline

CHURCH = Concept(name="church")
BOAT = Concept(name="boat")
STRONG = {"warm_up": "10", "scale": "3", "threshold": "0.2", "momentum_scale": "0.5", "momentum": "0.6"}
ALWAYS = {"filter_steps": "50", "middle": "-10"}


def encode(model: DiffusionModel, *texts: str) -> Conditioning:
    with torch.no_grad():
        return model.encode(texts)


def denoised(
    model: DiffusionModel, noise: Tensor, cond: Conditioning, steps: int, guidance_scale: float = 2.0
) -> Tensor:
    uncond = encode(model, "")
    done = model.denoise(noise, cond, uncond, num_inference_steps=steps, guidance_scale=guidance_scale)
    return done.latents


def denoised_each(
    model: DiffusionModel, noise: Tensor, cond: Conditioning, steps: int, stops: Sequence[int]
) -> Tensor:
    uncond = encode(model, "")
    done = model.denoise_each(noise, cond, uncond, num_inference_steps=steps, guidance_scale=2.0, stops=stops)
    return done.latents


def guided(
    method: type[SLD] | type[SAFREE], model: DiffusionModel, words: Knowledge, settings: Mapping[str, str]
) -> DiffusionModel:
    return method.preset(None, "object", settings).erase(model, [Target(CHURCH, words)]).apply(model)


def safree_of(model: DiffusionModel) -> SAFREEGuidance:
    assert isinstance(model.guidance, SAFREEGuidance)
    return model.guidance


# -- SLD -------------------------------------------------------------------------------------------------


def test_sampling_under_sld_is_its_formula(model: DiffusionModel, words: Knowledge) -> None:
    safe = guided(SLD, model, words, STRONG)
    cond = encode(model, "a photo of church", "dog")
    texts = encode(model, "", "church, chapel").prompt_embeds
    noise = model.initial_noise([1, 2])
    found = denoised(safe, noise, cond, 5, 4.0)
    pipeline = model.pipeline
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(5)
    for i in range(2):
        latents = noise[i : i + 1]
        velocity = np.zeros(latents.shape)
        for step, timestep in enumerate(scheduler.timesteps):
            outputs = []
            for embeds in (texts[:1], cond.prompt_embeds[i : i + 1], texts[1:]):
                with torch.no_grad():
                    outputs.append(pipeline.unet(latents, timestep, embeds).sample.double().numpy())
            nothing, prompt, away = outputs
            strength = np.where(prompt - away < 0.2, np.minimum(3 * np.abs(prompt - away), 1), 0)
            term = strength * (away - nothing) + 0.5 * velocity
            velocity = 0.6 * velocity + 0.4 * term
            # ten steps of fifty are one of five
            output = nothing + 4.0 * (prompt - nothing - (term if step >= 1 else 0))
            latents = scheduler.step(torch.tensor(output, dtype=torch.float32), timestep, latents).prev_sample
        torch.testing.assert_close(found[i : i + 1], latents, atol=1e-4, rtol=1e-3)


def test_the_safety_term_has_a_threshold_and_a_ceiling() -> None:
    prompt = torch.zeros(4)
    safety = torch.tensor([1.0, 0.1, -0.1, -1.0])
    uncond = torch.full((4,), 0.5)
    found = safety_term(uncond, prompt, safety, 5.0, 0.3)
    torch.testing.assert_close(found, torch.tensor([1.0 * 0.5, 0.5 * -0.4, 0.5 * -0.6, 0.0]))


def test_sld_asks_for_three_samples_and_never_mixes_them(model: DiffusionModel, words: Knowledge) -> None:
    targets = [Target(CHURCH, words), Target(BOAT, words)]
    erasure = SLD.preset("max", "object").erase(model, targets)
    assert erasure.recipe.details["text"] == "church, boat, chapel"
    assert erasure.recipe.cost.text_encoder_calls == 1
    assert erasure.recipe.cost.denoiser_calls == 0
    safe = erasure.apply(model)
    cond = encode(model, "church", "dog", "tree")
    noise = model.initial_noise([1, 2, 3])
    for guidance_scale in (1.0, 2.0):
        safe.calls.denoiser_rows = 0
        safe.calls.denoiser_calls = 0
        together = denoised(safe, noise, cond, 4, guidance_scale)
        assert (safe.calls.denoiser_calls, safe.calls.denoiser_rows) == (4, 4 * 3 * 3)
        assert safe.sampling_cost(cond, guidance_scale) == SamplingCost(9, 0)
        alone = denoised(safe, noise[1:2], cond[1:2], 4, guidance_scale)
        torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-4)
    stops = (1, 4, 2)
    each = denoised_each(safe, noise, cond, 4, stops)
    for i, stop in enumerate(stops):
        uncond = encode(model, "")
        alone = safe.denoise(
            noise[[i]], cond[[i]], uncond, num_inference_steps=4, guidance_scale=2.0, stop=stop
        ).latents
        torch.testing.assert_close(each[[i]], alone, atol=1e-5, rtol=1e-4)


def test_the_safety_text_is_cut_between_phrases_and_names_come_first(
    model: DiffusionModel, words: Knowledge
) -> None:
    main = model.text.main
    many = words.model_copy(update={"related": tuple("a " * n + "dog" for n in range(1, 9))})
    text = joined_phrases(model, [Target(CHURCH, many), Target(BOAT, many)])
    assert text.startswith("church, boat, a dog, a a dog")
    assert len(main.content_tokens(text)) <= main.room < len(main.content_tokens(f"{text}, a a a a dog"))
    long = [Target(Concept(name="a " * n + "tree"), words) for n in range(5, 9)]
    with pytest.raises(InputError, match="give fewer concepts"):
        joined_phrases(model, long)
    own = guided(SLD, model, words, {"text": "a house"})
    assert own.guidance is not None
    torch.testing.assert_close(own.guidance.tensors["safety"], encode(model, "a house").prompt_embeds[0])


def test_sampling_goes_on_with_the_momentum_of_its_samples(model: DiffusionModel) -> None:
    cond = encode(model, "church", "dog", "tree")
    sampling = SLDSampling(
        model.predict, cond, cond[[0]], 2.0, 3, config=SLDConfig(warm_up=0), safety=cond[[0]]
    )
    sampling.output(model.initial_noise([1, 2, 3]), torch.tensor(500.0), 0)
    velocity = sampling.velocity
    assert velocity is not None
    sampling.keep([2, 0])
    assert sampling.velocity is not None
    assert sampling.velocity.equal(velocity[[2, 0]])
    assert sampling.cond.prompt_embeds.equal(cond.prompt_embeds[[2, 0]])


# -- SAFREE ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("onward", [False, True])
def test_projecting_away_is_its_formula(onward: bool) -> None:
    rng = np.random.default_rng(0)
    embeds = rng.normal(size=(3, 8, 10))
    pooled = rng.normal(size=(3, 8, 10))
    present = np.zeros((3, 8), dtype=bool)
    for i, n in enumerate((4, 1, 5)):
        present[i, 1 : 1 + n] = True
    pooled[~present] = 0
    phrases = rng.normal(size=(4, 10))
    phrases[3] = phrases[0] + phrases[1]  # of no use to the span
    span = orthonormal(torch.tensor(phrases))
    assert span.shape == (3, 10)
    without = Variants(torch.tensor(pooled), torch.tensor(present))
    found = projected_away(torch.tensor(embeds), without, span, 0.01, onward=onward)
    concept = phrases[:3].T @ np.linalg.inv(phrases[:3] @ phrases[:3].T) @ phrases[:3]
    for i in range(3):
        places = np.flatnonzero(present[i])
        rows = pooled[i, places]
        inside = rows.T @ np.linalg.inv(rows @ rows.T) @ rows
        distance = np.linalg.norm(rows - rows @ concept, axis=1)
        expected = embeds[i].copy()
        first = None
        for k, place in enumerate(places):
            others = np.delete(distance, k)
            if len(others) == 0 or distance[k] >= 1.01 * others.mean():
                expected[place] = (np.eye(10) - concept) @ inside @ embeds[i, place]
                first = place if first is None else first
            elif onward and first is not None:
                expected[place] = (np.eye(10) - concept) @ embeds[i, place]
        if onward:
            tail = slice(places[-1] + 1, None)
            expected[tail] = embeds[i, tail] @ (np.eye(10) - concept)
        np.testing.assert_allclose(found.prompt_embeds[i].numpy(), expected, atol=1e-10)
        pairs = zip(expected[places], embeds[i, places], strict=True)
        cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs]
        assert found.change[i].item() == pytest.approx(1 - np.mean(cosines))


@pytest.mark.parametrize("leave_out", [False, True])
@pytest.mark.parametrize("embedded", [False, True])
def test_variants_lack_one_token_each(model: DiffusionModel, leave_out: bool, embedded: bool) -> None:
    main = model.text.main
    texts = ["a photo of church", "dog"]
    tokens = main.tokenize(texts)
    with torch.no_grad():
        cond = model.encode_tokens(tokens, main.embed(tokens.ids) if embedded else None)
    model.calls.text_encoder_calls = 0
    found = variants(model, cond, leave_out=leave_out)
    assert model.calls.text_encoder_calls == 1
    for i, text in enumerate(texts):
        content = main.content_tokens(text)
        assert found.present[i].nonzero().flatten().tolist() == list(range(1, len(content) + 1))
        for k in range(len(content)):
            other = main.assemble([content[:k] + ([] if leave_out else [0]) + content[k + 1 :]])
            with torch.no_grad():
                expected = model.encode_tokens(other).at(other.end)[0]
            torch.testing.assert_close(found.pooled[i, k + 1], expected, atol=1e-5, rtol=1e-4)
    assert found.pooled[~found.present].abs().sum() == 0


def test_variants_of_embeddings_are_of_the_embeddings(model: DiffusionModel) -> None:
    """Embeddings that no token has: without the first of two, the second moves up as it is."""
    main = model.text.main
    tokens = main.tokenize(["church dog"])
    moved = main.embed(tokens.ids).detach() + 0.5
    with torch.no_grad():
        cond = model.encode_tokens(tokens, moved)
        found = variants(model, cond, leave_out=True)
        shorter = torch.cat([moved[:, :1], moved[:, 2:], moved[:, -1:]], dim=1)
        expected = model.encode_tokens(main.tokenize(["dog"]), shorter).at(tokens.end - 1)[0]
    torch.testing.assert_close(found.pooled[0, 1], expected, atol=1e-5, rtol=1e-4)


def test_a_prompt_is_filtered_for_its_first_steps(model: DiffusionModel, words: Knowledge) -> None:
    settings = {**ALWAYS, "filter_steps": "25", "removal": "left-out", "reach": "onward"}
    safe = guided(SAFREE, model, words, settings)
    cond = encode(safe, "a photo of church", "tree")
    uncond = encode(model, "")
    noise = model.initial_noise([1, 2])
    found = variants(model, cond, leave_out=True)
    span = safree_of(safe).tensors["span"]
    turned = projected_away(cond.prompt_embeds, found, span, 0.01, onward=True).prompt_embeds.float()
    assert ((turned - cond.prompt_embeds).abs().amax((1, 2)) > 1e-3).all()
    half = model.denoise(
        noise, cond.with_embeds(turned), uncond, num_inference_steps=4, guidance_scale=2.0, stop=2
    )
    expected = model.denoise(
        half.latents, cond, uncond, num_inference_steps=4, guidance_scale=2.0, start=2
    ).latents
    torch.testing.assert_close(denoised(safe, noise, cond, 4), expected, atol=1e-5, rtol=1e-4)
    each = denoised_each(safe, noise, cond, 4, [1, 4])
    torch.testing.assert_close(each[1:], expected[1:], atol=1e-5, rtol=1e-4)


def test_safree_is_a_function_of_the_conditioning_alone(model: DiffusionModel, words: Knowledge) -> None:
    """Who encoded the prompts, what was encoded in between, order and batch make no difference."""
    safe = guided(SAFREE, model, words, ALWAYS)
    noise = model.initial_noise([1, 2])
    cond = encode(model, "a photo of church", "tree")
    expected = denoised(safe, noise, cond, 3)
    plain = denoised(model, noise, cond, 3)
    assert ((expected - plain).abs().amax((1, 2, 3)) > 1e-4).all()
    encode(safe, "dog", "a picture of boat")
    assert denoised(safe, noise, cond, 3).equal(expected)
    assert denoised(safe, noise, encode(safe, "a photo of church", "tree"), 3).equal(expected)
    for same, places in (
        (cond[[1, 0]], [1, 0]),
        (cond[1:], [1]),
        (Conditioning.cat([cond[[1]], cond[[0]]]), [1, 0]),
        (cond.detach(), [0, 1]),
        (cond[[0]].expand(2), [0, 0]),
    ):
        found = denoised(safe, noise[places], same, 3)
        torch.testing.assert_close(found, expected[places], atol=1e-5, rtol=1e-4)


def test_safree_filters_embeddings_and_leaves_what_no_text_encoder_made(
    model: DiffusionModel, words: Knowledge
) -> None:
    safe = guided(SAFREE, model, words, ALWAYS)
    main = model.text.main
    tokens = main.tokenize(["a photo of church"])
    noise = model.initial_noise([1])
    with torch.no_grad():
        soft = safe.encode_tokens(tokens, main.embed(tokens.ids) + 0.5)
    assert not denoised(safe, noise, soft, 3).equal(denoised(model, noise, soft, 3))
    other = soft.with_embeds(soft.prompt_embeds + 1e-3)
    assert denoised(safe, noise, other, 3).equal(denoised(model, noise, other, 3))
    nothing = encode(safe, "")
    assert denoised(safe, noise, nothing, 3).equal(denoised(model, noise, nothing, 3))


def test_safree_makes_no_more_calls_than_it_needs(model: DiffusionModel, words: Knowledge) -> None:
    targets = [Target(CHURCH, words), Target(BOAT, words)]
    erasure = SAFREE.preset("as-released", "object", ALWAYS).erase(model, targets)
    assert erasure.recipe.cost.text_encoder_calls == 2
    assert erasure.recipe.cost.denoiser_calls == 0
    safe = erasure.apply(model)
    cond = encode(safe, "a photo of church", "dog", "")
    uncond = encode(model, "")
    noise = model.initial_noise([1, 2, 3])
    n = len(model.text.main.content_tokens("a photo of church")) + 1
    assert safe.sampling_cost(cond, 2.0) == SamplingCost(6, n)
    calls = safe.metered()
    found = calls.denoise(noise, cond, uncond, num_inference_steps=3, guidance_scale=2.0).latents
    assert (calls.calls.text_encoder_calls, calls.calls.text_encoder_rows) == (1, n)
    assert calls.calls.denoiser_rows == 3 * 6
    negative = encode(model, "church, boat, chapel")
    plain = model.denoise(noise[2:], cond[2:], negative, num_inference_steps=3, guidance_scale=2.0)
    torch.testing.assert_close(found[2:], plain.latents, atol=1e-5, rtol=1e-4)


def test_the_filter_takes_as_many_steps_as_its_sigmoid_says(model: DiffusionModel, words: Knowledge) -> None:
    safe = guided(SAFREE, model, words, {"middle": "0.7", "slope": "0.4"})
    cond = encode(safe, "a photo of church", "chapel", "dog tree boat")
    guidance = safree_of(safe)
    sampling = guidance.sampling(safe, Sampling(safe.predict, cond, cond[[0]], 2.0, 200))
    assert isinstance(sampling, SAFREESampling)
    without = variants(model, cond, leave_out=False)
    change = projected_away(cond.prompt_embeds, without, guidance.tensors["span"], 0.01).change
    # ten steps of fifty are forty of two hundred
    expected = [round(40 / (1 + np.exp(-2 * 0.4 * (10 * b - 0.7)))) for b in change.tolist()]
    assert sampling.steps.tolist() == expected
    assert len(set(expected)) > 1


# -- an erasure without weights --------------------------------------------------------------------------


def test_settings_and_tensors_are_one_file_and_change_the_fingerprint(
    model: DiffusionModel, words: Knowledge, tmp_path: Path
) -> None:
    target = Target(CHURCH, words)
    one = SLD.preset("weak", "object").erase(model, [target])
    other = SLD.preset("strong", "object").erase(model, [target])
    assert fingerprint(one.apply(model)) != fingerprint(other.apply(model))
    one.save_pretrained(tmp_path / "safe")
    files = sorted(path.name for path in (tmp_path / "safe").iterdir())
    assert files == ["guidance.safetensors", "recipe.json"]
    loaded = Erasure.from_pretrained(tmp_path / "safe")
    assert loaded.guidance is not None
    assert one.guidance is not None
    assert loaded.guidance.config == one.guidance.config
    with pytest.raises(InputError, match="steered by sld already"):
        other.apply(loaded.apply(model))
    narrow = SLDGuidance(SLDConfig(), {"safety": torch.zeros(20, 8)})
    with pytest.raises(InputError, match="not 24 wide"):
        Erasure(recipe=one.recipe, guidance=narrow).apply(model)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "holds no guidance"),
        ({"guidance": "sdl", "settings": "{}"}, "did you mean 'sld'"),
        ({"guidance": "sld", "settings": '{"scale": -1}'}, "greater than or equal to 0"),
        ({"guidance": "sld", "settings": "no json"}, "holds no guidance"),
    ],
)
def test_bad_files_are_told(
    model: DiffusionModel, words: Knowledge, tmp_path: Path, header: dict[str, str] | None, message: str
) -> None:
    folder = tmp_path / "safe"
    SLD.preset("weak", "object").erase(model, [Target(CHURCH, words)]).save_pretrained(folder)
    file = folder / "guidance.safetensors"
    save_file(load_file(file), file, metadata=header)
    with pytest.raises(InputError, match="changed or damaged"):
        Erasure.from_pretrained(folder)
    recipe = json.loads((folder / "recipe.json").read_text())
    recipe["sha256"]["guidance.safetensors"] = sha256(file)
    (folder / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(InputError, match=message):
        Erasure.from_pretrained(folder)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sld", "safree"])
def test_the_commands_take_guidance_like_weights(tmp_path: Path, method: str) -> None:
    model = str(tmp_path / "tiny")
    tiny_pipeline().save_pretrained(model)
    (tmp_path / "words.txt").write_text("church\nchapel\n\ndog, tree\nboat, house\n")
    (tmp_path / "prompts.csv").write_text("seed,prompt\n5,a photo of church\n6,church\n")
    given = ["--words", str(tmp_path / "words.txt")]
    out = str(tmp_path / "safe")

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(main, list(arguments))
        assert done.exit_code == 0, done.output
        return done.stdout

    run("erase", "church", "--model", model, "--method", method, "--out", out, *given, "--json")
    image = str(tmp_path / "a.png")
    run(
        "generate", "church", "--model", model, "--erasure", out, "--num-inference-steps", "2", "--out", image
    )
    scene = [out, "--prompts", str(tmp_path / "prompts.csv"), *given, "--detector", "never"]
    names = "more_seeds,completion,ring_a_bell_soft"
    sets = str(tmp_path / "sets")
    printed = run("attack", *scene, "--effort", "quick", "--attacks", names, "--out", sets, "--json")
    rows = json.loads(printed)["attacks"]
    per_step = {"sld": (3, 3), "safree": (2, 1)}[method]
    probe = next(row for row in rows if row["attack"] == "completion")
    # two images: sampled once by the target and once by the original, then twice noised to seven tenths
    plain = 2 * 25
    assert probe["denoiser_rows"] == plain * per_step[0] + plain * 2 + 2 * 2 * 18 * per_step[1]
    report = str(tmp_path / "report")
    run("evaluate", *scene, "--suite", "quick", "--attacks", "none", "--out", report)
