"""What is easily got wrong in one family of models and shows in no error."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, FluxPipeline, HeunDiscreteScheduler
from torch import Tensor, nn

from sgrace._util.errors import InputError
from sgrace.erasers.esd import ESD
from sgrace.models import DiffusionModel
from sgrace.models.families.flux import image_ids, packed, unpacked

from ..erasers.cases import CASES
from ..erasers.test_contract import CHURCH
from ..families import drawn, flux, model_of, shared, stable_diffusion_3, stable_diffusion_xl, wrapped
from ..small_text import CLIP_LENGTH, LLM_LENGTH

PROMPTS = ("a photo of church", "dog")
SAMPLING: dict[str, Any] = {"num_inference_steps": 3, "guidance_scale": 3.0}
CLIP_FAMILIES = ("stable_diffusion_xl", "stable_diffusion_3")


def assert_official(model: DiffusionModel, told: dict[str, Any] | None = None, **options: Any) -> None:
    """Images equal the official pipeline's, which may have to be told more."""
    given = {**SAMPLING, **options}
    ours = model.generate(PROMPTS, [1, 2], **given)
    given |= told or {}
    torch.testing.assert_close(
        ours, drawn(model.pipeline, model, PROMPTS, [1, 2], **given), atol=2e-5, rtol=0
    )


# -- CLIP encoders -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", CLIP_FAMILIES)
def test_states_are_those_before_the_last_layer(family: str) -> None:
    """Neither the last layer nor the final norm is in them; pooled features have both."""
    model = model_of(family)
    before = model.encode(PROMPTS)
    parameters = [p for name in ("clip_l", "clip_g") for p in model.text[name].module.named_parameters()]
    norms = [value for name, value in parameters if name.endswith("final_layer_norm.weight")]
    assert len(norms) == 2
    for norm in norms:
        norm.data.mul_(2)
    after = model.encode(PROMPTS)
    assert after.prompt_embeds.equal(before.prompt_embeds)
    assert before.pooled is not None
    assert after.pooled is not None
    assert (after.pooled - before.pooled).abs().max() > 1e-3


@pytest.mark.parametrize("family", CLIP_FAMILIES)
def test_padding_that_is_not_the_end_token(family: str) -> None:
    second = shared(family).text["clip_g"]
    tokens = second.tokenize(["church, dog", ""])
    assert tokens.ids[0, -1] == second.tokenizer.pad_token_id != second.end_id
    assert (tokens.ids == second.end_id).sum(1).tolist() == [1, 1]
    assert tokens.ids[torch.arange(2), tokens.end].tolist() == [second.end_id] * 2
    assert second.tokenizer.pad_token_id not in second.ordinary_tokens()


@pytest.mark.parametrize("family", [*CLIP_FAMILIES, "flux"])
def test_every_call_of_a_teacher_has_the_pooled_features_of_its_prompts(family: str) -> None:
    model = model_of(family)
    seen: list[tuple[Tensor, Tensor]] = []

    def note(_denoiser: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        pooled = named["pooled_projections"] if family != "stable_diffusion_xl" else None
        pooled = named["added_cond_kwargs"]["text_embeds"] if pooled is None else pooled
        seen.extend(zip(model.denoiser_map.prompt_embeds_of(inputs, named), pooled, strict=True))

    hook = model.denoiser.register_forward_pre_hook(note, with_kwargs=True)
    ESD.preset(None, "object", CASES["esd"].short).erase(model, [CHURCH], seed=1)
    hook.remove()
    known = type(model.uncond()).cat([model.encode([CHURCH.concept.prompt]), model.uncond()])
    assert known.pooled is not None
    found = set()
    for prompt_embeds, pooled in seen:
        rows = [(prompt_embeds - own).abs().max() < 1e-5 for own in known.prompt_embeds]
        assert rows == [(pooled - own).abs().max() < 1e-5 for own in known.pooled]
        found.add(rows.index(True))
    assert found == {0, 1}


# -- Stable Diffusion XL -------------------------------------------------------------------------------------


@pytest.mark.parametrize("zero", [True, False])
def test_no_negative_prompt_is_zeros_in_both_paths_where_the_pipeline_says_so(zero: bool) -> None:
    model = wrapped(stable_diffusion_xl(zero_uncond=zero))
    uncond = model.uncond()
    assert uncond.pooled is not None
    assert (uncond.prompt_embeds.abs().max() == 0) == zero
    assert (uncond.pooled.abs().max() == 0) == zero
    assert model.encode([""]).prompt_embeds.abs().max() > 0, "the empty prompt itself is read"
    assert model.pipeline.config.force_zeros_for_empty_prompt == zero
    assert_official(model)
    both = model.as_negative(model.encode(["dog", ""]), ["dog", ""])
    assert both.prompt_embeds[0].equal(model.encode(["dog", ""]).prompt_embeds[0])
    assert (both.prompt_embeds[1].abs().max() == 0) == zero


@pytest.mark.parametrize("scheduler", [EulerDiscreteScheduler, HeunDiscreteScheduler])
def test_other_schedulers(scheduler: Any) -> None:
    pipeline = stable_diffusion_xl()
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
    model = wrapped(pipeline)
    assert_official(model)


def test_the_autoencoder_decodes_in_float32_where_float16_overflows() -> None:
    model = model_of("stable_diffusion_xl").to(dtype=torch.float16)
    vae: Any = model.components["vae"]
    seen = []
    hook = vae.decoder.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].dtype))
    latents = model.initial_noise([1])
    upcast = model.decode(latents)
    vae.register_to_config(force_upcast=False)
    plain = model.decode(latents)
    hook.remove()
    assert seen == [torch.float32, torch.float16]
    assert {parameter.dtype for parameter in vae.parameters()} == {torch.float16}
    torch.testing.assert_close(upcast, plain, atol=2e-2, rtol=0)


def test_a_pipeline_without_its_first_encoder_is_told() -> None:
    pipeline = stable_diffusion_xl()
    pipeline.text_encoder = None
    with pytest.raises(InputError, match="no text_encoder; load one that is complete"):
        wrapped(pipeline)


# -- Stable Diffusion 3 --------------------------------------------------------------------------------------


def test_clip_and_t5_are_one_after_the_other() -> None:
    model = shared("stable_diffusion_3")
    embeds = model.encode(PROMPTS).prompt_embeds
    widths = [model.text[name].width for name in ("clip_l", "clip_g")]
    assert embeds[:, :CLIP_LENGTH, sum(widths) :].abs().max() == 0
    tokens = model.text.tokenize(PROMPTS)
    for name, columns in (("clip_l", slice(0, widths[0])), ("clip_g", slice(widths[0], sum(widths)))):
        states = model.text[name].run(tokens[name].ids, output_hidden_states=True).hidden_states[-2]
        assert embeds[:, :CLIP_LENGTH, columns].equal(states)
    assert embeds[:, CLIP_LENGTH:].equal(model.text["t5"].run(tokens["t5"].ids).last_hidden_state)


def test_without_t5_its_states_are_zeros() -> None:
    model = wrapped(stable_diffusion_3(with_t5=False))
    embeds = model.encode(PROMPTS).prompt_embeds
    assert embeds.shape[1] == CLIP_LENGTH + 256
    assert embeds[:, CLIP_LENGTH:].abs().max() == 0
    assert_official(model, told={"max_sequence_length": 256})


def test_a_scheduler_of_diffusion_is_refused() -> None:
    pipeline = stable_diffusion_3()
    pipeline.scheduler = DDIMScheduler()
    with pytest.raises(InputError, match="use FlowMatchEulerDiscreteScheduler"):
        wrapped(pipeline)


# -- FLUX ----------------------------------------------------------------------------------------------------


def test_latents_are_packed_two_by_two() -> None:
    latents = torch.arange(2 * 3 * 4 * 6.0).view(2, 3, 4, 6)
    tokens = packed(latents)
    assert tokens.equal(FluxPipeline._pack_latents(latents, 2, 3, 4, 6))
    assert unpacked(tokens, 6).equal(latents)
    official = FluxPipeline._prepare_latent_image_ids(2, 2, 3, latents.device, latents.dtype)
    assert image_ids(latents).equal(official)


def test_guidance_is_an_input_and_costs_nothing() -> None:
    model = shared("flux").metered()
    assert_official(model, guidance_scale=5.0)
    few = model.generate(PROMPTS, [1, 2], num_inference_steps=3, guidance_scale=1.0)
    each = model.generate(PROMPTS, [1, 2], num_inference_steps=3, guidance_scale=torch.tensor([1.0, 9.0]))
    torch.testing.assert_close(each[0], few[0], atol=1e-5, rtol=0)
    assert (each[1] - few[1]).abs().max() > 1e-4
    assert model.calls.denoiser_rows == 3 * 3 * 2
    assert model.sampling_cost(model.encode(PROMPTS), 9.0).denoiser_rows == 2


def test_schnell_has_no_guidance() -> None:
    model = wrapped(flux(guidance=False))
    assert_official(model)
    strong = model.generate(PROMPTS, [1, 2], num_inference_steps=3, guidance_scale=9.0)
    assert strong.equal(model.generate(PROMPTS, [1, 2], num_inference_steps=3, guidance_scale=1.0))
    assert not model.encode(PROMPTS).extras


@pytest.mark.parametrize("family", ["stable_diffusion_3", "flux"])
def test_t5_is_in_bfloat16_where_float16_would_overflow(family: str) -> None:
    model = model_of(family)
    t5 = model.text["t5"]
    with torch.no_grad():
        for name, parameter in t5.module.named_parameters():
            if name.endswith("wo.weight"):
                parameter.mul_(1e5)
    tokens = t5.tokenize(PROMPTS).ids
    expected = t5.run(tokens).last_hidden_state
    model.to(dtype=torch.float16)
    kinds = {name: {p.dtype for p in part.parameters()} for name, part in model.components.items()}
    assert kinds.pop(t5.component) == {torch.bfloat16}
    assert set.union(*kinds.values()) == {torch.float16}
    found = model.encode(PROMPTS).prompt_embeds[:, -t5.length :]
    assert (found - expected).norm() < 0.05 * expected.norm()
    assert model.generate(PROMPTS, [1, 2], **SAMPLING).isfinite().all()


# -- Z-Image -------------------------------------------------------------------------------------------------


def test_a_prompt_is_read_as_a_chat_of_its_own_length() -> None:
    model = shared("z_image")
    main = model.text.main
    tokens = main.tokenize(PROMPTS)
    asked = [
        main.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
        for prompt in PROMPTS
    ]
    assert main.decode(tokens.ids[0][tokens.ids[0] != main.tokenizer.pad_token_id].tolist()) == asked[0]
    cond = model.encode(PROMPTS)
    lengths = [len(main.tokenizer(chat).input_ids) for chat in asked]
    assert cond.extras["mask"].sum(1).tolist() == lengths
    assert cond.prompt_embeds[~cond.extras["mask"]].abs().max() == 0
    # padding after the prompt changes nothing
    alone = model.encode(PROMPTS[1:])
    torch.testing.assert_close(alone.prompt_embeds, cond.prompt_embeds[1:], atol=1e-5, rtol=1e-5)


def test_a_prompt_that_fills_the_template_is_read_to_its_end() -> None:
    model = shared("z_image")
    tokens = model.text.main.tokenize(["dog " * 40])
    assert int(tokens.end[0]) == LLM_LENGTH - 1
    assert model.encode(["dog " * 40]).extras["mask"].all()


def test_the_sign_is_turned_and_time_runs_to_the_image() -> None:
    model = shared("z_image")
    seen: list[Any] = []

    def note(_denoiser: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        seen.extend([inputs[1], output.sample])

    hook = model.denoiser.register_forward_hook(note)
    latents = model.initial_noise([1])
    velocity = model.predict(latents, torch.tensor(250.0), model.encode(["dog"]))
    hook.remove()
    assert seen[0].tolist() == [0.75]
    assert velocity.equal(-torch.stack(seen[1]).squeeze(2))
