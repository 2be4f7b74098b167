"""Closed forms against an independent float64 reference, and what UCE and RECE put into them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.erasers._shared.closed_form import EditTerm, edit_matrices
from sgrace.erasers._shared.prompts import last_word_embeds, tail_embeds
from sgrace.erasers.rece import RECE, RECEConfig, recovering_embeds
from sgrace.erasers.uce import UCE, UCEConfig, edit_terms, retained_texts
from sgrace.knowledge import Knowledge, Target
from sgrace.models import DiffusionModel

CHURCH = Concept(name="church")


def random_matrices(rng: np.random.Generator, *shapes: tuple[int, int]) -> list[Tensor]:
    return [torch.tensor(rng.normal(size=shape)) for shape in shapes]


# -- the solves
# -----------------------------------------------------------------------------------------------


def test_closed_form_minimises_its_objective() -> None:
    rng = np.random.default_rng(0)
    inputs, like, retained = random_matrices(rng, (5, 6), (5, 6), (9, 6))
    matrices = random_matrices(rng, (4, 6), (3, 6))
    terms = [EditTerm(inputs, like, 2.0), EditTerm(retained, retained, 0.5)]
    edited = edit_matrices(matrices, terms, ridge=0.3)
    for before, after in zip(matrices, edited, strict=True):
        # an ordinary least-squares problem: weighted rows, the ridge as six more
        rows = np.vstack(
            [np.sqrt(2.0) * inputs.numpy(), np.sqrt(0.5) * retained.numpy(), np.sqrt(0.3) * np.eye(6)]
        )
        answers = [2.0**0.5 * like @ before.T, 0.5**0.5 * retained @ before.T, 0.3**0.5 * before.T]
        wanted = np.vstack([answer.numpy() for answer in answers])
        reference = np.linalg.lstsq(rows, wanted, rcond=None)[0].T
        np.testing.assert_allclose(after.numpy(), reference, atol=1e-10)


def test_an_ill_conditioned_edit_is_told() -> None:
    inputs = torch.ones(1, 4, dtype=torch.float64) * 1e8
    with pytest.raises(InputError, match="ill-conditioned"):
        edit_matrices([torch.eye(4)], [EditTerm(inputs, 0 * inputs, 1.0)], ridge=1e-9)


def test_recovering_embeds_are_the_best_answer() -> None:
    rng = np.random.default_rng(1)
    before = random_matrices(rng, (4, 5), (7, 5))
    after = random_matrices(rng, (4, 5), (7, 5))
    embeds = torch.tensor(rng.normal(size=(3, 5)))
    found = recovering_embeds(before, after, embeds, ridge=0.2)
    rows = np.vstack([*(a.numpy() for a in after), np.sqrt(0.2) * np.eye(5)])
    for own, answer in zip(embeds.numpy(), found.numpy(), strict=True):
        wanted = np.concatenate([*(b.numpy() @ own for b in before), np.zeros(5)])
        np.testing.assert_allclose(answer, np.linalg.lstsq(rows, wanted, rcond=None)[0], atol=1e-10)


# -- UCE and RECE
# ---------------------------------------------------------------------------------------------


def test_uce_makes_the_concept_answer_like_the_replacement(model: DiffusionModel, words: Knowledge) -> None:
    settings = {"replacement": "dog", "ridge": "1e-3", "n_retain": "4"}
    erasure = UCE.preset(None, "object", settings).erase(model, [Target(CHURCH, words)])
    name = model.sites.names("text_kv")[0]
    old = model.denoiser.get_parameter(name)
    new = erasure.apply(model).denoiser.get_parameter(name)
    church, dog, tree = last_word_embeds(model, ["church", "dog", "tree"])
    assert (new @ church - old @ dog).norm() < 0.1 * (old @ church - old @ dog).norm()
    assert (new @ tree - old @ tree).norm() < 0.5 * (old @ church - old @ dog).norm()


def test_the_result_of_a_closed_form_depends_on_no_seed(model: DiffusionModel, words: Knowledge) -> None:
    first = UCE().erase(model, [Target(CHURCH, words)], seed=1).tensors["unet"]
    other = UCE().erase(model, [Target(CHURCH, words)], seed=2).tensors["unet"]
    assert all(value.equal(other[name]) for name, value in first.items())


def test_rece_edits_what_recovers_the_concept_and_keeps_the_concept_erased_together() -> None:
    rng = torch.Generator().manual_seed(0)
    matrices = [torch.randn(9, 6, dtype=torch.float64, generator=rng) for _ in range(2)]
    concept, replacement, other = torch.randn(3, 1, 6, dtype=torch.float64, generator=rng).unbind()
    retained = torch.cat([replacement, other])
    terms = [EditTerm(concept, replacement, 1.0), EditTerm(retained, retained, 1.0)]

    def misses(edited: list[Tensor], embed: Tensor) -> float:
        pairs = zip(edited, matrices, strict=True)
        return sum(float((new @ embed.T - old @ replacement.T).norm()) for new, old in pairs)

    first = edit_matrices(matrices, terms, 0.01)
    again = recovering_embeds(matrices, first, concept, 0.1)
    alone = RECE(RECEConfig(epochs=1, ridge=0.01, together=False)).edit(matrices, terms)
    together = RECE(RECEConfig(epochs=1, ridge=0.01, together=True)).edit(matrices, terms)
    assert misses(alone, again) < 0.1 * misses(first, again)
    assert misses(together, again) < 0.1 * misses(first, again)
    assert misses(together, concept) < 0.1 * misses(alone, concept)
    wanted = edit_matrices(first, [EditTerm(again, replacement, 1.0), terms[1]], 0.01)
    for new, expected in zip(alone, wanted, strict=True):
        torch.testing.assert_close(new, expected)


@pytest.mark.parametrize("positions", ["last", "tail"])
@pytest.mark.parametrize("method", [UCE, RECE])
def test_they_read_texts_only(
    model: DiffusionModel, words: Knowledge, method: type[UCE], positions: str
) -> None:
    settings = {"positions": positions, "n_retain": "2"}
    erasure = method.preset(None, "object", settings).erase(model, [Target(CHURCH, words)])
    assert erasure.recipe.cost.denoiser_calls == 0
    assert erasure.recipe.cost.text_encoder_calls == 3


# -- what goes in
# ---------------------------------------------------------------------------------------------


def test_tail_embeds_line_up(model: DiffusionModel) -> None:
    main = model.text.main
    own, other = tail_embeds(model, ["church", "a church"], ["a photo of dog", "dog"])
    assert own.shape == other.shape
    with torch.no_grad():
        church = model.encode(["church"]).prompt_embeds[0]
        dog = model.encode(["a photo of dog"]).prompt_embeds[0]
    last = int(main.tokenize(["church"]).end[0]) - 1
    start = int(main.tokenize(["a photo of dog"]).end[0]) - 1
    n = main.length - start
    torch.testing.assert_close(own[:n], church[last:][:n])
    torch.testing.assert_close(other[:n], dog[start:])


@pytest.mark.parametrize("retain", ["words", "prompts"])
def test_uce_of_2023_retains_every_embedding_of_the_retained_texts(
    model: DiffusionModel, words: Knowledge, retain: str
) -> None:
    config = UCEConfig(positions="tail", n_retain=4, retain=retain)
    targets = [Target(CHURCH, words)]
    erased, retained = edit_terms(model, config, targets)
    texts = retained_texts(config, targets)
    assert len(texts) == 4
    assert not any("church" in text for text in texts)
    length = model.text.main.length
    assert retained.inputs.shape == (5 * length, erased.inputs.shape[1])  # with the empty text
    torch.testing.assert_close(retained.inputs[:length], model.encode([""]).prompt_embeds[0])
    torch.testing.assert_close(retained.inputs, retained.like)
    assert len(edit_terms(model, UCEConfig(positions="last"), targets)) == 1
