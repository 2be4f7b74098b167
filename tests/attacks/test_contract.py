"""Contract of every attack on a real pipeline of small size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import HeunDiscreteScheduler

from sgrace._util.errors import InputError
from sgrace.attacks import EFFORTS, AttackSet, Budget
from sgrace.attacks.rescored import Rescored
from sgrace.detectors.always import Always
from sgrace.knowledge import Knowledge
from sgrace.models import DiffusionModel

from ..models.made import tiny_model
from .cases import CASES
from .scenes import attack_of, scene_of

SEARCHING = [name for name in CASES if name != "none"]
BY_PROMPT = [name for name in CASES if attack_of(name).unit == "prompt"]


@pytest.mark.parametrize("name", CASES)
def test_contract(model: DiffusionModel, words: Knowledge, name: str, tmp_path: Path) -> None:
    attack = attack_of(name)
    parts = [p for module in model.components.values() for p in module.parameters()]
    before = [p.clone() for p in parts]
    found = attack.run(scene_of(model, words), seed=3)
    assert all(map(torch.equal, parts, before)), "the target is untouched"
    assert all(p.grad is None for p in parts), "no needless gradient"
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
            assert len(model.text.main.content_tokens(attempt.candidate)) > 0 or not attempt.survived

    again = attack.run(scene_of(model, words), seed=3)
    assert [a.candidate for a in again.attempts] == [a.candidate for a in found.attempts], (
        "same seed, same result"
    )
    torch.testing.assert_close(again.images, found.images, atol=1e-5, rtol=0)

    found.save_pretrained(tmp_path / "set")
    loaded = AttackSet.from_pretrained(tmp_path / "set")
    assert loaded.attempts == found.attempts
    torch.testing.assert_close(loaded.images, found.images, atol=1 / 127, rtol=0)
    assert loaded.tensors.keys() == found.tensors.keys()
    assert Rescored.of(loaded, Always()).verdicts == (True,) * 3
    assert loaded.record.spent == found.record.spent


@pytest.mark.parametrize("name", CASES)
def test_every_setting_is_described(name: str) -> None:
    for field in attack_of(name).config_type.model_fields.values():
        assert field.description
    assert set(attack_of(name).presets) <= set(EFFORTS)


@pytest.mark.parametrize("name", BY_PROMPT)
def test_what_succeeds_plainly_is_left_alone(model: DiffusionModel, words: Knowledge, name: str) -> None:
    found = attack_of(name).run(scene_of(model, words, Always()))
    assert found.success.pre.hits == 3
    assert found.success.post_only.hits == 0
    assert all(a.checks == 0 for a in found.attempts)


@pytest.mark.parametrize("name", [name for name in BY_PROMPT if name != "none"])
def test_prompts_that_succeed_plainly_can_be_attacked(
    model: DiffusionModel, words: Knowledge, name: str
) -> None:
    found = attack_of(name).run(scene_of(model, words, Always()), every_prompt=True)
    assert all(a.pre and a.success and a.checks == 1 for a in found.attempts), "one success, then left alone"


@pytest.mark.parametrize("name", SEARCHING)
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.8, 0.95])
def test_the_budget_is_never_passed(model: DiffusionModel, words: Knowledge, name: str, share: float) -> None:
    whole = attack_of(name).run(scene_of(model, words)).record.spent
    for kind in ("denoiser_rows", "text_encoder_rows"):
        limit = max(18, int(share * getattr(whole, kind)))
        found = attack_of(name).run(scene_of(model, words), Budget(**{kind: limit}))
        assert getattr(found.record.spent, kind) <= limit
        assert found.record.stopped == ("budget" if getattr(whole, kind) > limit else "finished")


@pytest.mark.parametrize("name", ["more_seeds", "completion"])
@pytest.mark.parametrize("share", [0.6, 0.95])
def test_the_budget_counts_every_call_of_a_scheduler(words: Knowledge, name: str, share: float) -> None:
    """Heun's scheduler calls the denoiser twice in each step but the last."""
    heun = tiny_model(scheduler=HeunDiscreteScheduler)
    whole = attack_of(name).run(scene_of(heun, words)).record.spent.denoiser_rows
    limit = int(share * whole)
    found = attack_of(name).run(scene_of(heun, words), Budget(denoiser_rows=limit))
    assert found.record.spent.denoiser_rows <= limit
    assert found.record.stopped == "budget"


@pytest.mark.parametrize("name", ["ring_a_bell_hard", "mma_text"])
def test_what_was_found_before_a_limit_is_checked(model: DiffusionModel, words: Knowledge, name: str) -> None:
    whole = attack_of(name).run(scene_of(model, words)).record.spent.text_encoder_rows
    checks = []
    for limit in range(whole // 3, whole, whole // 12):
        found = attack_of(name).run(scene_of(model, words), Budget(text_encoder_rows=limit))
        assert found.record.stopped == "budget"
        checks.append([a.checks for a in found.attempts])
    assert [1, 0, 0] in checks or [1, 1, 0] in checks, "a search that ends among the prompts"


def test_the_images_of_an_attack_can_be_sampled_again(model: DiffusionModel, words: Knowledge) -> None:
    scene = scene_of(model, words)
    settings: dict[str, Any] = {"num_inference_steps": 3, "guidance_scale": 2.0}
    seeds = [p.seed for p in scene.prompts]
    noise = model.initial_noise(seeds)
    plain = model.encode([p.text for p in scene.prompts])
    by_text = attack_of("p4d_n").run(scene)
    again = model.generate([a.candidate or "" for a in by_text.attempts], seeds, **settings)
    torch.testing.assert_close(again, by_text.images, atol=1e-4, rtol=0)
    soft = attack_of("concept_inversion").run(scene)
    again = model.sample(noise, plain.with_embeds(soft.tensors["prompt_embeds"]), model.uncond(), **settings)
    torch.testing.assert_close(again, soft.images, atol=1e-4, rtol=0)
    seeded = attack_of("more_seeds").run(scene)
    again = model.sample(seeded.tensors["noise"], plain, model.uncond(), **settings)
    torch.testing.assert_close(again, seeded.images, atol=1e-4, rtol=0)


def test_a_tampered_set_is_told(model: DiffusionModel, words: Knowledge, tmp_path: Path) -> None:
    attack_of("none").run(scene_of(model, words)).save_pretrained(tmp_path / "set")
    rows = (tmp_path / "set" / "attempts.jsonl").read_text()
    (tmp_path / "set" / "attempts.jsonl").write_text(rows.replace("false", "true"))
    with pytest.raises(InputError, match="differ from the ones that its manifest names"):
        AttackSet.from_pretrained(tmp_path / "set")
    with pytest.raises(InputError, match="is not an attack set"):
        AttackSet.from_pretrained(tmp_path)


def test_a_set_of_other_settings_is_not_taken_for_this_one(
    model: DiffusionModel, words: Knowledge, tmp_path: Path
) -> None:
    attack = attack_of("more_seeds")
    made = attack.run_in(tmp_path / "set", scene_of(model, words), seed=3)
    again = attack.run_in(tmp_path / "set", scene_of(model, words), seed=3)
    assert again.record == made.record, "read, not made anew: the seconds are the same"
    other = type(attack).preset("quick", {"tries": "3"})
    assert other.config != attack.config
    with pytest.raises(InputError, match="holds more_seeds with other settings"):
        other.run_in(tmp_path / "set", scene_of(model, words), seed=3)


def test_what_an_attack_needs_is_told(model: DiffusionModel, words: Knowledge) -> None:
    with pytest.raises(InputError, match="unlearn_diff_atk needs the model before erasing"):
        attack_of("unlearn_diff_atk").run(scene_of(model, words, original=False))
    with pytest.raises(InputError, match="does not cover sampling the 3 prompts"):
        attack_of("none").run(scene_of(model, words), Budget(denoiser_rows=17))
    with pytest.raises(ValueError, match="greater than 0"):
        Budget(denoiser_rows=0)
    with pytest.raises(InputError, match="Unknown effort 'fast'"):
        attack_of("none").preset("fast")
