"""The library's verbs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import registry
from .concept import Concept
from .erasers import Erasure, SGraceConfig
from .erasers.sgrace_config import DEFAULT_PRESET, Kind
from .errors import InputError, unknown
from .knowledge import Knowledge
from .models import StableDiffusion


def load_model(name: str = "emoji") -> StableDiffusion:
    """A model by name: ``emoji`` (built in), a diffusers folder, or a hub id such as ``CompVis/stable-diffusion-v1-4``.

    Raises:
        InputError: there is no such model, or it cannot be read.
    """
    known = registry.names("models")
    if name in known:
        return StableDiffusion.from_pretrained(registry.load("models", name)())
    if not Path(name).exists() and "/" not in name:
        raise unknown("model", name, [*known, "a diffusers folder", "a hub id such as owner/name"])
    return StableDiffusion.from_pretrained(name)


def kind_of(model: StableDiffusion, name: str) -> Kind:
    """Kind of a concept: known for the built-in model, ``object`` elsewhere."""
    if not is_built_in(model):
        return "object"
    from . import emoji  # noqa: PLC0415  (only for its own model)

    if emoji.resolve(name).style is not None:
        return "style"
    return "harmful" if name == "weapon" else "object"


def is_built_in(model: StableDiffusion) -> bool:
    """Whether the model is the one in the package."""
    from . import emoji  # noqa: PLC0415

    return Path(model.source) == emoji.path()


def erase(
    model: StableDiffusion | str,
    concepts: str | list[str],
    *,
    method: str = "sgrace",
    preset: str = DEFAULT_PRESET,
    settings: dict[str, str] | None = None,
    knowledge: list[Knowledge] | None = None,
    kind: Kind | None = None,
    seed: int = 0,
) -> Erasure:
    """Erase one or more concepts; the model is untouched.

    Args:
        model: a loaded model, or its name for :func:`load_model`.
        concepts: names; with several, all are erased together.
        method: name of an eraser.
        preset: the method's preset.
        settings: single settings as text, on top of the preset.
        knowledge: word lists, one per concept; may be left out for the built-in model, which has its own.
        kind: kind of the concepts, which decides their prompts; known by itself for the built-in model.
        seed: same seed, same weights.

    Raises:
        InputError: an unknown name or setting, a value out of range, or missing word lists.
    """
    eraser = registry.load("erasers", method)
    names = [concepts] if isinstance(concepts, str) else concepts
    parsed = [Concept.parse(name).name for name in names]
    loaded = load_model(model) if isinstance(model, str) else model
    if knowledge is None:
        if not is_built_in(loaded):
            raise InputError(
                "This model has no word lists of its own; give them with --knowledge FILE (related words, blank line, unrelated)."
            )
        from . import emoji  # noqa: PLC0415

        knowledge = [emoji.knowledge(name) for name in parsed]
    kinds = [kind or kind_of(loaded, name) for name in parsed]
    config: Any = SGraceConfig.preset(preset, kinds[0], settings)
    return eraser(config).erase(loaded, [Concept.parse(n, k) for n, k in zip(parsed, kinds, strict=True)], knowledge, seed=seed)
