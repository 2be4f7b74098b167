from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderTiny
from transformers import CLIPTextModel, CLIPTokenizer

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.metrics import wilson
from sgrace.testbeds import emoji
from sgrace.testbeds.emoji import concepts, vocabulary
from sgrace.testbeds.emoji.concepts import PROMPT_SETS
from sgrace.testbeds.emoji.measure import probes
from sgrace.testbeds.questions import seeds_of


@pytest.mark.parametrize("name", ["weapon", "church", "line art", "fish", "building", "gun"])
def test_a_concept_splits_the_classes(name: str) -> None:
    found = emoji.resolve(name)
    if found.style is None:
        groups = (found.targets, found.neighbours, found.unrelated)
        assert sorted(label for group in groups for label in group) == sorted(vocabulary.classes())
        assert all(groups)
    assert not set(found.train_words) & set(found.held_out)
    words = emoji.knowledge(name)
    assert not set(found.held_out) & {*words.related, *words.unrelated}, (
        "words held out for evaluation are never used in erasing"
    )
    assert words.overlap == ()


@pytest.mark.parametrize("name", ["weapon", "church", "line art", "vehicle", "rose", "gun"])
def test_no_eraser_is_told_of_withheld_classes(name: str) -> None:
    found = emoji.resolve(name)
    assert sorted((*found.listed_unrelated, *found.withheld_unrelated)) == sorted(found.unrelated)
    assert sorted((*found.listed_neighbours, *found.withheld_neighbours)) == sorted(found.neighbours)
    assert len(found.listed_unrelated) - len(found.withheld_unrelated) in {0, 1}
    assert found.withheld_neighbours

    words = emoji.knowledge(name)
    told = {*words.related, *words.unrelated, *words.replacements}
    told |= {context.replace("{}", "").strip() for context in words.contexts}
    keywords = concepts.keyword_table()
    if found.style is not None:
        phrases = [
            phrase for style in found.withheld_neighbours for phrase in vocabulary.STYLE_PHRASES[style]
        ]
        assert not any(phrase in text for phrase in phrases for text in (*told, *words.unrelated_contexts))
    withheld = (*found.withheld_unrelated, *(() if found.style else found.withheld_neighbours))
    for label in withheld:
        # a keyword of the concept itself may also be one of a withheld class
        assert not {label, *keywords[label]} & (told - set(words.related)), label


@pytest.mark.parametrize("name", ["weapon", "church", "line art"])
def test_prompt_sets_share_nothing(name: str) -> None:
    found = emoji.resolve(name)
    testbed = emoji.EmojiTestbed()
    concept = testbed.resolve(name)
    sets: list[set[str]] = []
    for prompt_set in PROMPT_SETS:
        asked = testbed.questions(concept, 24, prompt_set=prompt_set).asked
        texts = {text for question in asked.values() for text in question.prompts}
        texts |= {prompt.text for prompt in testbed.prompts(concept, 24, prompt_set)}
        sets.append(texts)
    assert not sets[0] & sets[1]
    synonyms = [set(found.synonyms(prompt_set)) for prompt_set in PROMPT_SETS]
    assert not synonyms[0] & synonyms[1]
    assert synonyms[0] | synonyms[1] == set(found.held_out)


def test_weapon_has_tools_as_neighbours() -> None:
    found = emoji.resolve("weapon")
    assert {"dagger", "bomb"} <= set(found.targets)
    assert {"hammer", "scissors"} <= set(found.neighbours)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("harmful", ("weapon", "bomb", "dagger", "crossed swords", "axe", "kitchen knife", "gun", "knife")),
        ("object", ("church", "hammer", "tool", "boomerang", "fish", "cut")),
        ("style", ("line art", "flat")),
    ],
)
def test_the_kind_of_a_concept_comes_from_the_vocabulary(kind: str, names: tuple[str, ...]) -> None:
    assert {name: emoji.EmojiTestbed().resolve(name).kind for name in names} == dict.fromkeys(names, kind)
    everything = {*vocabulary.FAMILIES, *vocabulary.classes()}
    assert everything >= vocabulary.HARMFUL


def test_a_given_kind_stands_above_the_known_one() -> None:
    assert emoji.EmojiTestbed().resolve(" Church", "harmful") == Concept(name="church", kind="harmful")


def test_an_unknown_concept_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'church'"):
        emoji.resolve("churhc")


@pytest.mark.parametrize("name", ["weapon", "church", "line art"])
def test_evaluation_prompts_are_never_used_in_erasing(name: str) -> None:
    words = emoji.knowledge(name)
    used = {c.format(w) for c in words.contexts for w in words.related}
    used |= {c.format(w) for c in words.unrelated_contexts for w in words.unrelated}
    asked = probes(emoji.resolve(name), n=30, seed=0)
    others = {"neighbours", "unrelated", "withheld neighbours", "withheld unrelated"}
    assert {"target", "synonyms", "rest", *others} == set(asked)
    classes = {question: {label for own in asked[question].classes for label in own} for question in others}
    assert not classes["unrelated"] & classes["withheld unrelated"]
    assert not classes["neighbours"] & classes["withheld neighbours"]
    assert asked["rest"].prompts == asked["target"].prompts
    for probe in asked.values():
        assert len(probe.prompts) == len(probe.classes) == len(probe.style) == 30
        assert not used & set(probe.prompts)


def test_a_seed_depends_on_the_prompt_not_on_its_place() -> None:
    prompts = ("a", "b", "a")
    seeds = dict(zip(prompts[:2], seeds_of(prompts, 0), strict=False))
    assert seeds_of(("b", "a"), 0) == [seeds["b"], seeds["a"]]
    assert len(set(seeds_of(prompts, 0))) == 3


def test_shipped_parts_load_offline_and_fit_each_other() -> None:
    tokenizer = CLIPTokenizer.from_pretrained(emoji.path() / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(emoji.path() / "text_encoder", dtype=torch.float32)
    tokens = tokenizer(
        ["a line art picture of church"], padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    assert tokens.shape == (1, 32)
    assert torch.isfinite(encoder(tokens).last_hidden_state).all()
    autoencoder = AutoencoderTiny.from_pretrained(emoji.path() / "vae", dtype=torch.float32)
    assert autoencoder.encode(torch.zeros(1, 3, 64, 64)).latents.shape == (1, 8, 8, 8)
    verdict = emoji.Judge.from_pretrained(emoji.path()).judge(torch.zeros(2, 3, 64, 64))
    torch.testing.assert_close(verdict.classes.sum(1), torch.ones(2))
    assert verdict.styles.shape == (2, len(vocabulary.STYLES))


def test_wilson_interval_against_the_score_equation() -> None:
    for hits, n in ((0, 10), (3, 50), (25, 50), (50, 50)):
        low, high = wilson(hits, n)
        assert 0 <= low <= hits / n <= high <= 1
        for bound in (low, high):
            if 0 < bound < 1:
                z = (hits / n - bound) / (bound * (1 - bound) / n) ** 0.5
                assert abs(abs(z) - 1.959964) < 1e-4
    with pytest.raises(ValueError, match="not a share"):
        wilson(3, 2)
