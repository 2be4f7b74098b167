"""What every eraser keeps to, on a real pipeline of small size. No method is named here: a case is enough."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from sgrace._util import registry
from sgrace._util.errors import InputError
from sgrace.concept import Concept, Kind
from sgrace.erasers.base import Eraser, Need
from sgrace.erasure import Erasure
from sgrace.evaluation.requests import fingerprint
from sgrace.knowledge import Target
from sgrace.models import DiffusionModel
from sgrace.models.families.stable_diffusion import StableDiffusion
from sgrace.models.sites import Sites

from ..conftest import tiny_pipeline
from ..golden.record import WORDS, state
from .cases import CASES, Case

CHURCH = Target(Concept(name="church"), WORDS)
BOAT = Target(
    Concept(name="boat"), WORDS.model_copy(update={"related": ("boat",), "unrelated": ("dog", "tree")})
)
PREDICTIONS = ("epsilon", "v_prediction")
#: What a run is seen to do, by the need that has to announce it.
SEEN = {
    Need.GRADIENTS: ((torch.autograd, "backward"), (torch.autograd, "grad")),
    Need.ATTENTION_MAPS: ((Sites, "text_attention"),),
    Need.GENERATED_DATA: ((DiffusionModel, "denoise"), (DiffusionModel, "decode")),
}


def tiny_model(
    prediction_type: str = "epsilon", family: type[StableDiffusion] = StableDiffusion
) -> StableDiffusion:
    model = family.from_pipeline(tiny_pipeline(prediction_type))
    model.set_progress_bar_config(disable=True)
    return model


def images_of(model: DiffusionModel) -> Tensor:
    return model.generate(["a photo of church", "dog"], [1, 2], num_inference_steps=3, guidance_scale=2.0)


def changed(a: Mapping[str, Tensor], b: Mapping[str, Tensor], tolerance: float = 0.0) -> set[str]:
    """Names of the tensors that differ, or that only one of them has."""
    both = a.keys() & b.keys()
    other = {n for n in both if a[n].shape != b[n].shape or (a[n] - b[n]).abs().max() > tolerance}
    return other | (a.keys() ^ b.keys())


def parts_of(erasure: Erasure) -> list[Tensor]:
    """Every tensor that an erasure brings."""
    groups: list[Mapping[str, Tensor]] = list(erasure.tensors.values())
    groups += [] if erasure.adapter is None else [erasure.adapter.tensors]
    groups += [] if erasure.guidance is None else [erasure.guidance.tensors]
    return [value for group in groups for value in group.values()]


def assert_is_a_sentence(error: InputError) -> None:
    assert re.fullmatch(r"[A-Z-][^\n]{10,300}[.?]", str(error)), f"no single sentence: {error}"


class Run:
    """One eraser on one model; what several tests look at is made once.

    Attributes:
        method: the eraser's class.
        model: the original.
        before, images: its tensors and what it generates, before anything is erased.
        seen: which of :data:`SEEN` the first erasing did.
    """

    def __init__(self, case: Case, prediction_type: str) -> None:
        self.case = case
        self.prediction_type = prediction_type
        self.method: type[Eraser[Any]] = registry.load("erasers", case.name)
        self.model = tiny_model(prediction_type)
        self.before = state(self.model)
        self.images = images_of(self.model)
        self.seen: set[Need] = set()

    def eraser(self, settings: Mapping[str, str] | None = None) -> Eraser[Any]:
        return self.method.preset(None, "object", {**self.case.short, **(settings or {})})

    def erase(
        self, *targets: Target, settings: Mapping[str, str] | None = None, model: DiffusionModel | None = None
    ) -> Erasure:
        return self.eraser(settings).erase(model or self.model, targets or [CHURCH], seed=1)

    @cached_property
    def erasure(self) -> Erasure:
        """The concept erased at seed 1."""
        with pytest.MonkeyPatch.context() as patch:
            for need, owner, name in [(need, *place) for need, places in SEEN.items() for place in places]:
                patch.setattr(owner, name, self._watched(need, getattr(owner, name)))
            return self.erase()

    def _watched(self, need: Need, function: Any) -> Any:
        def call(*values: Any, **options: Any) -> Any:
            if options.get("stop") is None:  # latents on the way to an image are no image
                self.seen.add(need)
            return function(*values, **options)

        return call

    @cached_property
    def safe(self) -> DiffusionModel:
        """The model with the erasure applied."""
        return self.erasure.apply(self.model)

    @cached_property
    def after(self) -> dict[str, Tensor]:
        """Its tensors."""
        return state(self.safe)

    @cached_property
    def safe_images(self) -> Tensor:
        """What it generates."""
        return images_of(self.safe)

    def may_change(self, eraser: Eraser[Any], names: Iterable[str]) -> set[str]:
        """Those of some tensors that the eraser says it changes."""
        model = self.model
        main = model.text.main
        if eraser.site == "text":
            return {f"{main.component}.{name}" for name in main.trainable()}
        if eraser.site == "adapter":
            return {name for name in names if name not in self.before and not name.startswith("guidance.")}
        if eraser.site == "guidance":
            return {name for name in names if name.startswith("guidance.")}
        return {f"{model.denoiser_component}.{name}" for name in model.sites.names(eraser.site)}


class EraserContract:
    """The contract; a subclass has a fixture ``run``."""

    def test_only_what_it_declares_changes(self, run: Run) -> None:
        difference = changed(run.before, run.after)
        assert difference
        assert difference <= run.may_change(run.eraser(), run.after)
        assert not changed(run.before, state(run.model)), "the original is untouched"
        assert run.model.guidance is None
        assert not run.model.erasures
        assert run.safe.erasures[0].same_as(run.erasure)

    def test_its_size_is_known_before_it_is_made(self, run: Run) -> None:
        weights = [value.nbytes for tensors in run.erasure.tensors.values() for value in tensors.values()]
        expected = run.eraser().saved_bytes(run.model)
        assert sum(weights) <= expected
        assert bool(weights) == (expected > 0)
        assert run.eraser().saved_bytes(run.safe) == expected + run.erasure.n_bytes, "parents are saved too"

    def test_it_shows_in_the_images(self, run: Run) -> None:
        assert (run.safe_images - run.images).abs().max() > 1e-4
        assert images_of(run.model).equal(run.images)

    def test_the_same_seed_gives_the_same_bytes(self, run: Run) -> None:
        again = run.erase()
        assert not changed(run.after, state(again.apply(run.model)))
        assert again.recipe.config == run.erasure.recipe.config
        assert again.recipe.cost == run.erasure.recipe.cost

    def test_the_recipe_says_how_it_was_made(self, run: Run) -> None:
        recipe = run.erasure.recipe
        assert recipe.method == run.method.name == run.case.name
        assert recipe.paper == run.method.paper
        assert recipe.preset == run.method.default_preset
        assert recipe.seed == 1
        assert [target.concept.name for target in recipe.targets] == ["church"]
        assert run.method.config_type(**recipe.config) == run.eraser().config
        assert (recipe.cost.trained_parameters > 0) == (run.eraser().site != "guidance")
        assert recipe.cost.text_encoder_rows
        assert recipe.seconds is not None

    def test_it_does_only_what_its_needs_announce(self, run: Run) -> None:
        assert run.erasure
        assert run.seen == run.method.needs & SEEN.keys()
        assert (Need.TEXT_ENCODER in run.method.needs) == (run.eraser().site == "text")
        assert (Need.SAMPLING in run.method.needs) == (run.erasure.guidance is not None)
        assert (run.eraser().site == "guidance") == (run.erasure.guidance is not None)
        assert (run.eraser().site == "adapter") == (run.erasure.adapter is not None)

    def test_saved_loaded_and_applied_it_is_the_same(self, run: Run, tmp_path: Path) -> None:
        run.erasure.save_pretrained(tmp_path / "safe")
        loaded = Erasure.from_pretrained(tmp_path / "safe").apply(run.model)
        assert not changed(run.after, state(loaded))
        torch.testing.assert_close(images_of(loaded), run.safe_images)
        assert fingerprint(loaded) == fingerprint(run.safe) != fingerprint(run.model)

    def test_switched_off_it_changes_nothing(self, run: Run) -> None:
        safe = run.erase(settings=run.case.off).apply(run.model)
        torch.testing.assert_close(images_of(safe), run.images, atol=1e-4, rtol=1e-4)
        other = changed(run.before, state(safe), tolerance=1e-6)
        assert not other & run.before.keys(), "what the model had is as it was"

    def test_several_concepts_are_erased_at_once(self, run: Run) -> None:
        both = run.erase(CHURCH, BOAT)
        assert [concept.name for concept in both.recipe.concepts] == ["church", "boat"]
        after = state(both.apply(run.model))
        assert changed(run.after, after)
        assert changed(run.before, after) <= run.may_change(run.eraser(), after)

    def test_bad_input_is_told_in_a_sentence(self, run: Run) -> None:
        with pytest.raises(InputError, match="Unknown preset") as preset:
            run.method.preset("nonsense", "object")
        with pytest.raises(InputError, match="Unknown setting") as setting:
            run.method.preset(None, "object", {"nonsense": "1"})
        with pytest.raises(InputError, match="at least one concept") as nothing:
            run.eraser().erase(run.model, [])
        for error in (preset, setting, nothing):
            assert_is_a_sentence(error.value)
        for name, field in run.method.config_type.model_fields.items():
            if str not in (field.annotation, *get_args(field.annotation)):
                with pytest.raises(InputError, match=name) as wrong:
                    run.method.preset(None, "object", {name: "nonsense"})
                assert_is_a_sentence(wrong.value)

    def test_every_preset_can_be_made(self, run: Run) -> None:
        kinds: tuple[Kind, ...] = get_args(Kind)
        assert run.method.default_preset in run.method.presets
        for preset in run.method.presets:
            for kind in kinds:
                eraser = run.method.preset(preset, kind)
                assert eraser.preset_name == preset
                assert eraser.site in {"text", "adapter", "guidance", *run.model.sites.map.groups}

    def test_every_setting_is_described(self, run: Run) -> None:
        settings = run.method.config_type
        assert settings.model_config["frozen"]
        assert settings.model_config["extra"] == "forbid"
        for name, field in settings.model_fields.items():
            assert re.fullmatch(r"[^\n]{8,}\.", field.description or ""), name
        assert run.method.paper.startswith("arXiv ")
        assert run.method.licence
        assert (run.method.__doc__ or "").strip()

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_a_model_in_half_precision_is_erased_in_float32_or_refused(
        self, run: Run, dtype: torch.dtype
    ) -> None:
        model = tiny_model(run.prediction_type).to(dtype=dtype)
        if reason := run.eraser().refusal(type(model), dtype):
            with pytest.raises(InputError, match=f"{run.method.name} cannot erase .*{reason}"):
                run.erase(model=model)
            assert model.calls.text_encoder_calls == 0
            return
        before = state(model)
        images = images_of(model)
        erasure = run.erase(model=model)
        # an optimizer's steps, and small solutions, are below what half precision resolves
        assert {value.dtype for value in parts_of(erasure)} <= {torch.float32}
        assert all(value.isfinite().all() for value in parts_of(erasure))
        safe = erasure.apply(model)
        after = images_of(safe)
        assert after.isfinite().all()
        assert (after - images).abs().max() > 1e-4
        assert not changed(before, state(model)), "the original is untouched"
        parameters = [p for module in safe.components.values() for p in module.parameters()]
        assert {p.dtype for p in parameters} == {dtype}

    @pytest.mark.slow
    def test_every_site_that_can_be_chosen_is_the_one_that_changes(self, run: Run) -> None:
        """A setting ``site`` is a choice; so is a switch that leaves adapters in the place of weights."""
        fields = run.method.config_type.model_fields
        choices = [{"site": site} for site in get_args(fields["site"].annotation)] if "site" in fields else []
        choices += [{name: "true"} for name in fields if name == "keep_adapters"]
        for choice in choices:
            if run.eraser(choice).refused(run.model):  # a site that other families have
                continue
            after = state(run.erase(settings=choice).apply(run.model))
            difference = changed(run.before, after)
            assert difference
            assert difference <= run.may_change(run.eraser(choice), after), choice


class TestEveryEraser(EraserContract):
    @pytest.fixture(
        scope="class", params=[(name, kind) for name in CASES for kind in PREDICTIONS], ids="-".join
    )
    @classmethod
    def run(cls, request: pytest.FixtureRequest) -> Run:
        name, prediction_type = request.param
        return Run(CASES[name], prediction_type)


def test_every_eraser_has_a_case() -> None:
    assert set(CASES) == set(registry.names("erasers"))
