"""Text encoders are trained together: which ones, what reaches them, what is saved of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from sgrace._util import registry
from sgrace._util.errors import InputError
from sgrace.erasers.sgrace import SGrace, SGraceConfig
from sgrace.erasers.sgrace.constants import Constants
from sgrace.erasers.sgrace.learned_words import LearnedWords
from sgrace.erasers.sgrace.samples import Adversary
from sgrace.erasure import Erasure
from sgrace.evaluation.drift import read_parts
from sgrace.knowledge import Target
from sgrace.models import DiffusionModel, PromptSource

from ..families import drawn, model_of, shared
from ..golden.record import WORDS
from .cases import CASES
from .made import CHURCH, job_of

TARGET = Target(CHURCH, WORDS)
SHORT = {
    "rounds": "1",
    "attack_steps": "2",
    "edit_steps": "2",
    "n_adversarial": "4",
    "n_retain": "4",
    "retain_pool": "8",
    "num_inference_steps": "4",
    "inversion_steps": "2",
    "inversion_batch": "1",
    "path_steps": "2",
    "replacement": "house",
}
SAMPLING: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 3.0}
#: Family -> its encoders by component, T5 and the language model last.
ENCODERS = {
    "stable_diffusion_xl": {"text_encoder": "clip_l", "text_encoder_2": "clip_g"},
    "stable_diffusion_3": {"text_encoder": "clip_l", "text_encoder_2": "clip_g", "text_encoder_3": "t5"},
    "flux": {"text_encoder": "clip_l", "text_encoder_2": "t5"},
    "z_image": {"text_encoder": "llm"},
}
CLIP = {"text_encoder", "text_encoder_2"}


@cache
def erased(family: str, method: str = "sgrace", **more: str) -> Erasure:
    own = SHORT if method == "sgrace" else CASES[method].short
    eraser = registry.load("erasers", method).preset(None, "object", {**own, **more})
    erasure: Erasure = eraser.erase(shared(family), [TARGET], seed=1)
    return erasure


def moved(erasure: Erasure, model: DiffusionModel) -> set[str]:
    """Components of which some value is another one."""
    return {
        component
        for component, tensors in erasure.tensors.items()
        for before in [model.components[component].state_dict()]
        if any(not torch.equal(value, before[name]) for name, value in tensors.items())
    }


@pytest.mark.parametrize("family", ["stable_diffusion_xl", "stable_diffusion_3"])
@pytest.mark.parametrize("method", ["sgrace", "adv_unlearn", "des", "hirm", "tea"])
def test_both_clip_encoders_are_trained_and_nothing_else(family: str, method: str) -> None:
    assert moved(erased(family, method), shared(family)) == CLIP


@pytest.mark.parametrize(
    ("family", "which", "components"),
    [
        ("stable_diffusion_xl", "clip_g", {"text_encoder_2"}),
        ("stable_diffusion_3", "all", {*CLIP, "text_encoder_3"}),
        ("stable_diffusion_3", "t5, clip_l", {"text_encoder", "text_encoder_3"}),
        ("flux", "clip", {"text_encoder"}),
        ("flux", "all", CLIP),
        ("z_image", "clip", {"text_encoder"}),
    ],
)
def test_encoders_are_trained_where_they_are_asked_for(family: str, which: str, components: set[str]) -> None:
    erasure = erased(family, encoders=which)
    assert set(erasure.tensors) == components
    assert moved(erasure, shared(family)) == components


def test_an_encoder_that_cannot_be_trained_is_told_with_those_that_can() -> None:
    with pytest.raises(
        InputError, match="No text encoder 't5' can be trained here; name some of clip_l, clip_g"
    ):
        erased("stable_diffusion_xl", encoders="t5")
    # no loss of this method reads pooled features, and the CLIP encoder of FLUX gives nothing else
    with pytest.raises(InputError, match="No text encoder 'clip_l' can be trained here; name some of t5"):
        erased("flux", "tea", encoders="clip_l")
    assert set(erased("flux", "tea").tensors) == {"text_encoder_2"}


@pytest.mark.parametrize(
    ("family", "which"), [("stable_diffusion_xl", "clip"), ("stable_diffusion_3", "all"), ("flux", "all")]
)
def test_the_attack_moves_the_content_of_every_trained_encoder(family: str, which: str) -> None:
    model = shared(family)
    # enough steps that the latents are no pure noise, which says the same to every prompt
    steps = {"num_inference_steps": "20"}
    config = config_of(encoders=which, clean_share="0", keep_bare_name="0", **steps)
    constants, adversary = run_of(model, config)
    samples = adversary.fresh(constants.subjects[0], None)
    after = adversary.attacked(constants.subjects[0], samples).source
    assert set(after.embeddings) == set(ENCODERS[family].values())
    for name, embeddings in after.embeddings.items():
        differs = (embeddings != samples.source.embeddings[name]).any(-1)
        positions = torch.arange(differs.shape[1])
        content = (positions >= model.text[name].start) & (positions < after.tokens[name].end[:, None])
        assert torch.equal(differs, content), name


def test_an_encoder_that_is_not_trained_reads_the_tokens() -> None:
    model = shared("stable_diffusion_3")
    constants, adversary = run_of(model, config_of())
    source = adversary.attacked(constants.subjects[0], adversary.fresh(constants.subjects[0], None)).source
    assert set(source.embeddings) == {"clip_l", "clip_g"}
    texts = [model.text.main.decode(own) for own in model.text.main.contents(source.tokens["clip_l"])]
    assert torch.equal(source.tokens["t5"].ids, model.text["t5"].tokenize(texts).ids)


@pytest.mark.parametrize("family", ["stable_diffusion_xl", "stable_diffusion_3"])
def test_the_concept_comes_to_its_replacement_in_every_encoder_and_in_the_pooled_feature(family: str) -> None:
    model = shared(family)
    more = {"attack_steps": "0", "edit_steps": "25", "lr": "0.005", "random_ids": "0", "retain_weight": "1"}
    safe = SGrace(config_of(**more)).erase(model, [TARGET]).apply(model)
    goal = read_parts(model, ["house"])
    start = read_parts(model, ["church"])
    end = read_parts(safe, ["church"])
    for name in ("clip_l", "clip_g", "pooled"):
        assert distance(end[name], goal[name]) < 0.5 * distance(start[name], goal[name]), name


def distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).square().mean())


def test_words_are_learned_in_every_trained_encoder() -> None:
    model = shared("stable_diffusion_3")
    config = config_of(encoders="all", learned_words="2", inversion_lr="0.1")
    job = job_of(model, TARGET)
    words = LearnedWords.of(config, job, Constants(config, job), 0)
    words.learn(model, 1)
    embeddings = words.samples(6).source.embeddings
    assert set(embeddings) == {"clip_l", "clip_g", "t5"}
    for name, own in embeddings.items():
        table = model.text[name].table.weight
        assert not (table == words.words[name][0, 0]).all(-1).any(), "it is no token's own embedding"
        same = (own == words.words[name][0]).all(-1).sum(1)
        assert same.tolist() == [1] * 6, "each prompt has the word once"


@pytest.mark.parametrize("family", ENCODERS)
def test_a_saved_pipeline_draws_the_same_in_plain_diffusers(family: str, tmp_path: Path) -> None:
    erased(family, encoders="all").save_pretrained(tmp_path / "erasure")
    loaded = Erasure.from_pretrained(tmp_path / "erasure")
    assert set(loaded.text) == set(ENCODERS[family])
    safe = loaded.apply(model_of(family))
    images = safe.generate(["a photo of church"], [1], **SAMPLING)
    safe.pipeline.save_pretrained(tmp_path / "pipeline")
    plain = DiffusionPipeline.from_pretrained(tmp_path / "pipeline")
    again = drawn(plain, safe, ["a photo of church"], [1], **SAMPLING)
    torch.testing.assert_close(again, images, atol=2e-5, rtol=0)
    before = shared(family).generate(["a photo of church"], [1], **SAMPLING)
    assert (before - images).abs().max() > 1e-4, "it is the erased one"


def config_of(**more: str) -> SGraceConfig:
    return SGrace.preset("replacement", "object", {**SHORT, **more}).config


def run_of(model: DiffusionModel, config: SGraceConfig) -> tuple[Constants, Adversary]:
    job = job_of(model, TARGET)
    constants = Constants(config, job)
    return constants, Adversary(config, job, constants, model)


@pytest.mark.parametrize("family", ["stable_diffusion_3", "flux"])
def test_what_is_read_ahead_is_what_the_encoder_reads(family: str) -> None:
    model = shared(family)
    source = PromptSource(model.text.tokenize(["a photo of church", "dog", ""]))
    t5 = model.text["t5"]
    assert model.text.beside([own for own in model.text if own.is_clip]) == [t5]
    assert not model.text.beside(list(model.text))
    expected = model.encode_source(source)
    ahead = model.read_ahead(source, [t5])
    found = model.encode_source(PromptSource.cat([ahead[:1], ahead[1:]]))
    torch.testing.assert_close(found.prompt_embeds, expected.prompt_embeds)
    silent = model.encode_source(model.text.silenced(source, [t5]))
    assert not t5.states(silent.prompt_embeds).any()
    assert silent.pooled is not None
    torch.testing.assert_close(silent.pooled, expected.pooled)


def test_an_encoder_that_is_not_trained_does_not_run_in_each_step() -> None:
    model = model_of("stable_diffusion_3")
    rows: list[int] = []
    t5 = model.text["t5"].module
    t5.register_forward_hook(lambda _module, inputs, _output: rows.append(len(inputs[0])))

    def run_in(steps: int) -> int:
        rows.clear()
        more = {"attack_steps": str(steps), "edit_steps": str(steps), "preset": "replacement"}
        preset = more.pop("preset")
        registry.load("erasers", "sgrace").preset(preset, "object", {**SHORT, **more}).erase(model, [TARGET])
        return sum(rows)

    once = run_in(1)
    assert 0 < once < 12
    assert run_in(4) == once
