"""Small models in the place of those that pages name: real classes, small sizes, random weights."""

from __future__ import annotations

from functools import wraps
from typing import Any

import pytest
from diffusers import FluxPipeline

from .conftest import tiny_pipeline
from .families import PIPELINES, sized
from .small_clip import save_small_clip

#: What pages load, and the family of the small model in its place; None is Stable Diffusion 1.
MODELS = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": None,
    "stabilityai/stable-diffusion-xl-base-1.0": "stable_diffusion_xl",
    "stabilityai/stable-diffusion-3.5-medium": "stable_diffusion_3",
    "black-forest-labs/FLUX.1-dev": "flux",
}
#: Further names, and the model above whose small one stands there too.
OTHERS = {
    "someone/without-church": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "CompVis/stable-diffusion-v1-4": "stable-diffusion-v1-5/stable-diffusion-v1-5",
}
#: Networks alone, and the model and component that stand in for them.
PARTS = {"OPTML-Group/AdvUnlearn:nudity_unlearned": ("CompVis/stable-diffusion-v1-4", "text_encoder")}
CLIP = "openai/clip-vit-large-patch14"


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of small models by the name that the pages give."""
    root = tmp_path_factory.mktemp("models")
    save_small_clip(root / "clip")
    found = {CLIP: str(root / "clip")}
    for name, family in MODELS.items():
        folder = root / name.replace("/", "--")
        pipeline = tiny_pipeline() if family is None else PIPELINES[family]()
        pipeline.save_pretrained(folder)
        found[name] = str(folder)
    others = {name: found[other] for name, other in OTHERS.items()}
    return {**found, **others, **{name: f"{others[model]}/{part}" for name, (model, part) in PARTS.items()}}


@pytest.fixture
def small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """FLUX's pipeline has its size in its class, and a folder cannot name another."""
    start = FluxPipeline.__init__

    @wraps(start)
    def small(self: FluxPipeline, *args: Any, **components: Any) -> None:
        start(self, *args, **components)
        sized(self)

    monkeypatch.setattr(FluxPipeline, "__init__", small)


def on_small_models(args: list[str], stand_ins: dict[str, str]) -> list[str]:
    """A command line with small models and images, on the CPU, and with a detector that needs no download."""
    found = [stand_ins.get(arg, arg.replace(CLIP, stand_ins[CLIP])) for arg in args]
    others = {"cuda": "cpu", "512": "64", "image_classifier": "always", "nudenet": "always"}
    # small models are saved in one precision: they have no variant
    return [others.get(arg, arg) for arg in found if arg not in ("--variant", "fp16")]
