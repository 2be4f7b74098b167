"""Erasers show the adversarial samples that they train on to whoever asks, and to nobody else."""

from __future__ import annotations

import pytest
import torch

from sgrace._util import registry
from sgrace.erasers._shared.adversarial_samples import AdversarialSamples, adversarial_samples
from sgrace.erasers._shared.prompts import tails
from sgrace.erasers.uce import edit_terms, edit_texts, whole_prompts

from .cases import CASES
from .test_contract import CHURCH, tiny_model

#: Eraser -> where its samples enter, and how many there are at the settings of its case.
SAMPLES = {
    "sgrace": ("input_embeds", 1),
    "adv_unlearn": ("input_embeds", 2),
    "race": ("prompt_embeds", 2),
    "receler": ("prompt_embeds", 2),
    "stereo": ("input_embeds", 2),
    "recare": ("input_embeds", 2),
}


def samples_of(name: str) -> list[AdversarialSamples]:
    eraser = registry.load("erasers", name).preset(None, "object", CASES[name].short)
    with adversarial_samples() as found:
        eraser.erase(tiny_model(), [CHURCH])
    done = len(found)
    eraser.erase(tiny_model(), [CHURCH])
    assert len(found) == done, "nothing is shown after the block"
    return found


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_whole_prompts_that_differ_from_the_plain_one(name: str) -> None:
    found = samples_of(name)
    model = tiny_model()
    main = model.text.main
    inlet, n = SAMPLES[name]
    assert {each.inlet for each in found} == {inlet}
    values = torch.cat([each.values for each in found])
    assert values.shape == (n, main.length, main.width)
    assert values.isfinite().all()
    tokens = main.tokenize([CHURCH.concept.prompt])
    with torch.no_grad():
        plain = (
            model.encode_tokens(tokens).prompt_embeds if inlet == "prompt_embeds" else main.embed(tokens.ids)
        )
    assert (values - plain).abs().amax((1, 2)).min() > 1e-3


def test_single_positions_are_told_with_the_texts_that_they_belong_to() -> None:
    found = samples_of("rece")
    assert [each.inlet for each in found] == ["prompt_embed_rows"] * 2
    eraser = registry.load("erasers", "rece").preset("emoji", "object", {"epochs": "2"})
    with adversarial_samples() as found:
        eraser.erase(tiny_model(), [CHURCH])
    places = tails(tiny_model().text.main, *edit_texts(eraser.config, [CHURCH]))
    n_rows = sum(place.own.stop - place.own.start for place in places)
    assert [len(each.values) for each in found] == [n_rows] * 2


@pytest.mark.parametrize("positions", ["last", "tail"])
def test_single_positions_stand_in_the_prompts_that_they_were_read_from(positions: str) -> None:
    model = tiny_model()
    settings = {"positions": positions, "words": "related"}
    config = registry.load("erasers", "rece").preset("emoji", "object", settings).config
    texts = edit_texts(config, [CHURCH])
    rows = edit_terms(model, config, [CHURCH])[0].inputs
    with torch.no_grad():
        plain = model.encode(texts.erased).prompt_embeds
    assert torch.equal(whole_prompts(model, config, [CHURCH], rows), plain)
    changed = (whole_prompts(model, config, [CHURCH], rows + 1) - plain).abs().amax(2) > 0.5
    assert changed.sum() == len(rows)
    ends = model.text.main.tokenize(texts.erased).end - 1
    assert changed[torch.arange(len(ends)), ends].all(), "from the last content token on"
