"""S-GRACE: presets, what training does, cost, words, samples; no size of a batch changes a result."""

from __future__ import annotations

import random
import warnings
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgrace._util.errors import InputError, InputWarning
from sgrace.concept import Concept, Kind
from sgrace.erasers.base import Job
from sgrace.erasers.sgrace import SGrace, SGraceConfig
from sgrace.erasers.sgrace.constants import Constants, resolved_words
from sgrace.erasers.sgrace.samples import Adversary
from sgrace.erasure import Erasure
from sgrace.knowledge import Knowledge, Target
from sgrace.models import DiffusionModel, TextEncoder
from sgrace.models.families.stable_diffusion import StableDiffusion

SHORT = {
    "rounds": "2",
    "attack_steps": "2",
    "edit_steps": "3",
    "n_adversarial": "3",
    "n_retain": "4",
    "num_inference_steps": "10",
}
CHURCH = Concept(name="church")


def sgrace(preset: str = "replacement", **more: str) -> SGrace:
    return SGrace.preset(preset, "object", {**SHORT, **more})


def weights(erasure: Erasure) -> torch.Tensor:
    return torch.cat([value.flatten().float() for value in erasure.tensors["text_encoder"].values()])


def original(model: StableDiffusion) -> torch.Tensor:
    return torch.cat([value.flatten().float() for value in model.text.main.module.state_dict().values()])


@pytest.mark.parametrize("preset", ["published", "corrected", "replacement"])
def test_every_preset_changes_the_layers_only_and_by_its_seed(
    model: StableDiffusion, words: Knowledge, preset: str
) -> None:
    targets = [Target(CHURCH, words)]
    erasure = sgrace(preset).erase(model, targets, seed=1)
    assert torch.equal(weights(erasure), weights(sgrace(preset).erase(model, targets, seed=1)))
    assert not torch.equal(weights(erasure), weights(sgrace(preset).erase(model, targets, seed=2)))
    before = model.text.main.module.state_dict()
    changed = {
        name
        for name, value in erasure.tensors["text_encoder"].items()
        if not torch.equal(value, before[name])
    }
    assert changed
    assert not any("embeddings." in name for name in changed)


def test_a_missing_text_projection_is_told(model: StableDiffusion, words: Knowledge) -> None:
    targets = [Target(CHURCH, words)]
    with pytest.warns(InputWarning, match="no text projection"):
        sgrace("published", rounds="0").erase(model, targets)
    model.text = model.text.with_projection(torch.eye(24))
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        sgrace("published", rounds="0").erase(model, targets)


@pytest.mark.parametrize("preset", ["published", "corrected", "replacement"])
def test_no_rounds_change_nothing(model: StableDiffusion, words: Knowledge, preset: str) -> None:
    erasure = sgrace(preset, rounds="0").erase(model, [Target(CHURCH, words)])
    assert torch.equal(weights(erasure), original(model))


@pytest.mark.parametrize("preset", ["published", "corrected", "replacement"])
def test_rounds_cost_no_more_than_the_algorithm_needs(
    model: StableDiffusion, words: Knowledge, preset: str
) -> None:
    n_attacked = 3 - round(sgrace(preset).config.clean_share * 3)

    def fixed(rounds: int) -> dict[str, int]:
        eraser = sgrace(preset, rounds=str(rounds))
        config = eraser.config
        cost = cost_of(eraser.erase(model, [Target(CHURCH, words)]))
        attacks = rounds * config.attack_steps
        # what a round encodes without training: goals of the replacement, features before the training
        ahead = rounds * ((config.erase_target == "replacement") + (config.similarity_weight > 0))
        cost["denoiser_calls"] -= attacks
        cost["denoiser_rows"] -= attacks * n_attacked
        cost["text_encoder_calls"] -= attacks + rounds * config.edit_steps + ahead
        cost["text_encoder_rows"] -= attacks * n_attacked + rounds * config.edit_steps * (3 + 4) + ahead * 3
        return cost

    assert fixed(1) == fixed(3)  # what remains is the constant set-up


def cost_of(erasure: Erasure) -> dict[str, int]:
    return dict(erasure.recipe.cost.model_dump())


def run_of(model: StableDiffusion, words: Knowledge, **more: str) -> tuple[Constants, Adversary]:
    config = sgrace(**more).config
    job = Job(model, (Target(CHURCH, words),), 0, torch.Generator().manual_seed(0), random.Random(0))
    constants = Constants(config, job)
    return constants, Adversary(config, job, constants, model)


def test_several_concepts_at_once(model: StableDiffusion, words: Knowledge) -> None:
    boats = Knowledge(source="test", related=("boat",), unrelated=("dog", "tree"), replacements=("tree",))
    targets = [Target(CHURCH, words), Target(Concept(name="boat"), boats)]
    erasure = sgrace().erase(model, targets)
    assert [target.concept.name for target in erasure.recipe.targets] == ["church", "boat"]
    assert [found["name"] for found in erasure.recipe.details["replacements"]] == ["house", "tree"]
    assert [own.unrelated for own in resolved_words(targets)] == [("dog", "tree", "house"), ("dog", "tree")]
    # what is erased beside it takes no concept's place
    houses = boats.model_copy(update={"related": ("House",), "replacements": ("church", "tree")})
    erasure = sgrace().erase(model, [Target(CHURCH, words), Target(Concept(name="House"), houses)])
    assert [found["name"] for found in erasure.recipe.details["replacements"]] == ["boat", "tree"]
    dogs = Knowledge(source="test", related=(), unrelated=("church",))
    with pytest.raises(InputError, match="words of other concepts"):
        sgrace().erase(model, [Target(CHURCH, words), Target(Concept(name="dog"), dogs)])


def test_it_brings_the_concept_to_its_replacement(model: StableDiffusion, words: Knowledge) -> None:
    eraser = sgrace(rounds="3", edit_steps="60", lr="0.002", replacement="house")
    safe = eraser.erase(model, [Target(CHURCH, words)]).apply(model)

    def embeds(of: DiffusionModel, text: str) -> torch.Tensor:
        return of.encode([text]).prompt_embeds.detach()

    goal = embeds(model, "a photo of house")
    before = (embeds(model, "a photo of church") - goal).square().mean()
    after = (embeds(safe, "a photo of church") - goal).square().mean()
    retained = (embeds(safe, "a photo of dog") - embeds(model, "a photo of dog")).square().mean()
    assert after < before / 4
    assert retained < before / 4


@pytest.mark.parametrize("samples", ["word_lists", "prompts"])
def test_without_related_words_the_samples_are_made_of_the_name(model: StableDiffusion, samples: str) -> None:
    words = Knowledge(source="test", related=(), unrelated=("dog",), contexts=("{}",))
    constants, adversary = run_of(model, words, retain_words="raw", samples=samples, random_ids="0")
    rows = adversary.rows(constants.subjects[0], 3, bare_first=False)
    assert rows.own.ids.tolist() == model.text.main.tokenize(["church"] * 3).ids.tolist()


def test_no_replacement_below_the_ceiling_is_an_error(model: StableDiffusion, words: Knowledge) -> None:
    own_only = words.model_copy(update={"replacements": ("chapel",)})
    with pytest.raises(InputError, match="set replacement=WORD"):
        sgrace(retain_words="raw").erase(model, [Target(CHURCH, own_only)])


@pytest.mark.parametrize("preset", ["published", "corrected", "replacement"])
def test_batch_size_and_threads_do_not_change_the_result(
    model: StableDiffusion, words: Knowledge, preset: str
) -> None:
    # The bare name is left out: at first the student answers to it as the original does, the gradient is
    # nothing but rounding, and its sign is another one in each batch. Signs of other tiny gradients differ
    # too.
    phrases = words.model_copy(update={"contexts": ("a photo of {}", "an image of {}")})
    more = {"keep_bare_name": "0", "n_adversarial": "4", "clean_share": "0.25", "n_pairs": "2"}

    def moved(size: int, threads: int = 1) -> torch.Tensor:
        model.batch_size = size
        model.threads = threads
        return weights(sgrace(preset, **more).erase(model, [Target(CHURCH, phrases)])) - original(model)

    whole = moved(32)
    for size in (2, 1):
        assert (moved(size) - whole).norm() < 0.05 * whole.norm()
    if preset == "published":  # two threads on a busy machine are slow
        assert (moved(32, threads=2) - whole).norm() < 0.05 * whole.norm()


def test_only_samples_that_may_move_are_attacked(model: StableDiffusion, words: Knowledge) -> None:
    constants, adversary = run_of(model, words, n_adversarial="6", clean_share="0.5", attack_steps="3")
    subject = constants.subjects[0]
    samples = adversary.fresh(subject, None)
    rows = model.calls.denoiser_rows
    attacked = adversary.attacked(subject, samples)
    assert model.calls.denoiser_rows - rows == 3 * 3
    moved = (attacked.source.embeddings["clip"] != samples.source.embeddings["clip"]).any(-1)
    positions = torch.arange(moved.shape[1])
    content = (positions > 0) & (positions < samples.source.tokens["clip"].end[:, None])
    assert (moved[:3] & ~content[:3]).sum() == 0
    assert (moved[:3] & content[:3]).sum() > 0
    assert not moved[3:].any()


def test_a_carried_goal_belongs_to_the_sample(model: StableDiffusion, words: Knowledge) -> None:
    for positions in ("one", "all"):
        more = {"carry": "1", "update_chance": "0.5", "n_adversarial": "8", "match_positions": positions}
        constants, adversary = run_of(model, words, **more)
        subject = constants.subjects[0]
        first = adversary.fresh(subject, None)
        second = adversary.fresh(subject, first)
        [part] = second.goal.parts
        same = [
            torch.equal(a, b)
            for a, b in zip(first.source.embeddings["clip"], second.source.embeddings["clip"], strict=True)
        ]
        assert True in same
        assert False in same
        for row, unchanged in enumerate(same):
            if unchanged:
                assert torch.equal(first.goal.parts[part][row], second.goal.parts[part][row])
                assert torch.equal(
                    first.source.tokens["clip"].ids[row], second.source.tokens["clip"].ids[row]
                )


def test_presets_differ_in_the_named_switches_only() -> None:
    published = SGrace.preset("published", "object").config.model_dump()
    corrected = SGrace.preset("corrected", "object").config.model_dump()
    assert {key for key in published if published[key] != corrected[key]} == {
        "latent_timestep",
        "latent_sampler",
        "retain_draw",
        "random_id_limit",
        "attack_target",
        "feature_position",
        "attack_optimizer",
        "projection",
        "carry",
        "keep_bare_name",
        "retain_words",
        "erase_target",
        "lr",
    }
    assert SGrace.preset("replacement", "harmful").config == SGraceConfig()
    rules = {kind: SGrace.preset("text", kind).config.replacement_rule for kind in get_args(Kind)}
    assert rules == {"object": "least_alike", "harmful": "nearest", "style": "nearest"}


@pytest.mark.parametrize(
    ("preset", "given", "message"),
    [
        ("replacment", {}, "did you mean 'replacement'"),
        ("replacement", {"edit_step": "3"}, "did you mean 'edit_steps'"),
        ("replacement", {"rounds": "-1"}, "rounds"),
        ("replacement", {"lr": "fast"}, "lr"),
        ("replacement", {"timestep_low": "0.96"}, "timestep_low"),
        ("published", {"carry": "perhaps"}, "carry"),
    ],
)
def test_bad_settings_are_named(preset: str, given: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SGrace.preset(preset, "object", given)


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


def test_random_tokens_stand_alike_in_a_sample_and_in_its_replacements_prompt(model: StableDiffusion) -> None:
    words = Knowledge(source="test", related=("church",), unrelated=("dog",), contexts=("a photo of {}",))
    more = {"random_ids": "2", "n_adversarial": "6", "clean_share": "0.5", "replacement": "house"}
    constants, adversary = run_of(model, words, **more)
    rows = adversary.rows(constants.subjects[0], 6, bare_first=False)
    main = model.text.main
    own = main.content_tokens("a photo of church")
    other = main.content_tokens("a photo of house")
    assert rows.own.ids[3:].tolist() == main.tokenize(["a photo of church"] * 3).ids.tolist(), (
        "clean ones have none"
    )
    assert rows.other.ids[3:].tolist() == main.tokenize(["a photo of house"] * 3).ids.tolist()

    def places(content: list[int], plain: list[int]) -> set[int]:
        return {at for at in range(len(plain)) if content[:at] + content[at + 2 :] == plain}

    shared = len(main.content_tokens("a photo of"))
    for i in range(3):
        content = rows.own.ids[i, 1 : rows.own.end[i]].tolist()
        other_content = rows.other.ids[i, 1 : rows.other.end[i]].tolist()
        common = {at for at in places(content, own) & places(other_content, other) if at <= shared}
        assert common, "two more tokens, at the same place, before the word"
        assert all(content[at : at + 2] == other_content[at : at + 2] for at in common), "the same ones"


@pytest.mark.parametrize("preset", ["published", "corrected"])
def test_half_precision_trains_in_float32(model: StableDiffusion, words: Knowledge, preset: str) -> None:
    model.to(dtype=torch.bfloat16)
    erasure = sgrace(preset).erase(model, [Target(CHURCH, words)])
    values = erasure.tensors["text_encoder"].values()
    assert all(value.dtype == torch.float32 for value in values)
    assert weights(erasure).isfinite().all()
    assert not torch.equal(weights(erasure), original(model))


def test_states_before_the_padding_do_not_depend_on_it(model: StableDiffusion) -> None:
    encoder = model.text.main
    source = model.text.source(encoder.tokenize(["church", "a photo of a dog"]), [encoder])
    short = source.until_end()
    length = short.tokens[encoder.name].ids.shape[1]
    assert length == int(short.tokens[encoder.name].end.max()) + 1 < encoder.length
    whole = model.encode_source(source).prompt_embeds
    torch.testing.assert_close(model.encode_source(short).prompt_embeds, whole[:, :length])


def test_the_padding_is_read_in_every_so_many_training_steps(
    model: StableDiffusion, words: Knowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = []
    run = TextEncoder.run

    def watched(self: TextEncoder, ids: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if len(ids) == 3 + 4:  # samples and retain prompts: a training step
            lengths.append(ids.shape[1])
        return run(self, ids, *args, **kwargs)

    monkeypatch.setattr(TextEncoder, "run", watched)
    sgrace(edit_steps="5", padding_every="4").erase(model, [Target(CHURCH, words)])
    whole = model.text.main.length
    assert [length == whole for length in lengths] == [True, False, False, False, True] * 2
    assert max(length for length in lengths if length != whole) < whole / 2
