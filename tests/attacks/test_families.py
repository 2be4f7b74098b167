"""Every attack on every family: it runs, or it is refused with the reason before any work."""

from __future__ import annotations

import pytest
import torch

from sgrace._util.errors import InputError
from sgrace.attacks import Prompt
from sgrace.knowledge import Knowledge
from sgrace.models import Conditioning

from ..families import PIPELINES, precision_of_run, shared
from .cases import CASES
from .scenes import attack_of, scene_of


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("family", [name for name in PIPELINES if name != "stable_diffusion"])
def test_an_attack_runs_on_a_family_or_is_refused_with_the_reason(
    family: str, name: str, words: Knowledge
) -> None:
    attack = attack_of(name)
    dtype = precision_of_run(attack, family, list(CASES).index(name))
    model = shared(family, dtype).metered()
    scene = scene_of(model, words, prompts=[Prompt("a photo of church", 1)])
    if reason := attack.refusal(type(model), dtype):
        with pytest.raises(InputError, match=f"{name} cannot attack {family}: {reason}"):
            attack.run(scene)
        assert model.calls.text_encoder_calls == 0
        return
    found = attack.run(scene, seed=3)
    assert found.record.stopped == "finished"
    assert [attempt.checks for attempt in found.attempts] == [CASES[name].checks]
    assert found.images.isfinite().all()
    if attack.by_text and CASES[name].checks:
        assert isinstance(found.attempts[0].candidate, str)


@pytest.mark.parametrize("family", ["stable_diffusion_3", "z_image"])
@pytest.mark.parametrize("name", ["ring_a_bell_soft", "concept_inversion"])
def test_what_is_kept_makes_the_images_again(family: str, name: str, words: Knowledge) -> None:
    """Pooled features and masks belong to it."""
    model = shared(family)
    scene = scene_of(model, words, prompts=[Prompt("a photo of church", 1)])
    found = attack_of(name).run(scene, seed=3)
    kept = {key: value for key, value in found.tensors.items() if key != "word"}
    cond = Conditioning(kept.pop("prompt_embeds"), kept.pop("pooled", None), kept)
    again = model.sample(
        model.initial_noise([1]), cond, model.uncond(), num_inference_steps=3, guidance_scale=2.0
    )
    torch.testing.assert_close(again, found.images, atol=1e-4, rtol=0)
