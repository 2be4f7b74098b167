"""The library's verbs."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path

from ._util import registry
from ._util.errors import InputError, unknown
from ._util.hashing import sha256_of_tensors
from .attacks import PROTOCOLS, AttackSet, Budget, Prompt, Scene
from .concept import Concept, Kind
from .detectors import Detector
from .erasure import Erasure
from .knowledge import Knowledge
from .models import StableDiffusion

UNLIMITED = Budget(unet_rows=10**12, text_encoder_rows=10**12)
N_PROMPTS = {"quick": 12, "standard": 24, "full": 48}  # of the built-in model's own prompt tables


def load_model(name: str = "emoji") -> StableDiffusion:
    """A model by name: ``emoji`` (built in), a diffusers folder, or a hub id such as ``CompVis/stable-diffusion-v1-4``.

    Raises:
        InputError: there is no such model, or it cannot be read.
    """
    known = registry.names("testbeds")
    if name in known:
        model = StableDiffusion.from_pretrained(registry.load("testbeds", name).path())
        model.source = name  # not the path it has on this machine
        return model
    if not Path(name).exists() and "/" not in name:
        raise unknown("model", name, [*known, "a diffusers folder", "a hub id such as owner/name"])
    return StableDiffusion.from_pretrained(name)


def kind_of(model: StableDiffusion, name: str) -> Kind:
    """Kind of a concept: known for the built-in model, ``object`` elsewhere."""
    if not is_built_in(model):
        return "object"
    from .testbeds import emoji  # noqa: PLC0415  (only for its own model)

    return emoji.resolve(name).kind


def is_built_in(model: StableDiffusion) -> bool:
    """Whether the model is the one in the package, or was made from it: it reads the same vocabulary."""
    return set(model.pipeline.tokenizer.get_vocab()) == _built_in_vocabulary()


@functools.cache
def _built_in_vocabulary() -> frozenset[str]:
    from .testbeds import emoji  # noqa: PLC0415  (only for its own model)

    return frozenset(json.loads((emoji.path() / "tokenizer" / "tokenizer.json").read_text())["model"]["vocab"])


def load_target(name: str) -> tuple[StableDiffusion, StableDiffusion | None, Erasure | None]:
    """A model to be attacked: an erasure's folder (applied to its base model), or any model by name.

    Returns:
        The target, the model before erasing, and the erasure, the last two where they are known.

    Raises:
        InputError: there is no such model, or it cannot be read.
    """
    if not (Path(name) / "recipe.json").is_file():
        return load_model(name), None, None
    erasure = Erasure.from_pretrained(name)
    original = load_model(str(erasure.recipe["base_model"]))
    return erasure.apply(original), original, erasure


def only_concept(erasure: Erasure | None) -> tuple[str, Kind]:
    """Name and kind of an erasure's concept.

    Raises:
        InputError: there is no erasure, or it is of several concepts.
    """
    concepts = erasure.recipe["concepts"] if erasure else []
    if len(concepts) != 1:
        raise InputError("Name the concept with --concept.")
    return concepts[0]["name"], concepts[0]["kind"]


def fingerprint(model: StableDiffusion) -> str:
    """SHA-256 of the weights and the guidance that decide a model's pictures."""
    parts = [part.state_dict() for part in (model.text_encoder, model.pipeline.unet, model.pipeline.vae)]
    if model.guidance is None:
        return sha256_of_tensors(*parts)
    return sha256_of_tensors(*parts, model.guidance.tensors, header=json.dumps(model.guidance.settings))


def attack(
    target: StableDiffusion,
    concept: str,
    name: str,
    *,
    original: StableDiffusion | None = None,
    length: str = "standard",
    settings: dict[str, str] | None = None,
    budget: Budget | None = None,
    prompts: Sequence[Prompt] | None = None,
    knowledge: Knowledge | None = None,
    detector: Detector | None = None,
    kind: Kind | None = None,
    protocol: str = "shared",
    seed: int = 0,
) -> AttackSet:
    """Try to bring a concept back.

    Args:
        target: the model under attack; it is untouched.
        concept: name of the concept.
        name: name of the attack.
        original: the model before erasing, which most attacks need.
        length: ``quick``, ``standard``, or ``full``, the paper's own.
        settings: single settings of the attack as text.
        budget: hard limits; none, if absent.
        prompts: prompt table; may be left out for the built-in model.
        knowledge: words of the concept; may be left out for the built-in model.
        detector: decides success; the built-in model's judge, if absent.
        kind: kind of the concept.
        protocol: which prompts are attacked, of :data:`sgrace.attacks.PROTOCOLS`.
        seed: same seed, same candidates.

    Raises:
        InputError: an unknown name or setting, or something the attack needs is missing.
    """
    attacker = registry.load("attacks", name).preset(length, settings)
    scene = scene_of(
        target, concept, original=original, length=length, prompts=prompts, knowledge=knowledge, detector=detector, kind=kind,
        protocol=protocol,
    )  # fmt: skip
    found: AttackSet = attacker.run(scene, budget or UNLIMITED, seed=seed)
    return found


def scene_of(
    target: StableDiffusion,
    concept: str,
    *,
    original: StableDiffusion | None = None,
    length: str = "standard",
    prompts: Sequence[Prompt] | None = None,
    knowledge: Knowledge | None = None,
    detector: Detector | None = None,
    kind: Kind | None = None,
    protocol: str = "shared",
) -> Scene:
    """What attacks work on, with the built-in model's own prompts, words and judge where none are given; see :func:`attack`."""
    if protocol not in PROTOCOLS:
        raise unknown("protocol", protocol, PROTOCOLS)
    parsed = Concept.parse(concept, kind or kind_of(target, concept))
    if is_built_in(target):
        from .testbeds import emoji  # noqa: PLC0415  (only for its own model)
        from .testbeds.emoji.measure import GUIDANCE_SCALE, STEPS, probes, seeds_of  # noqa: PLC0415

        if prompts is None:
            texts = probes(emoji.resolve(parsed.name), N_PROMPTS[length], seed=1)["target"].prompts
            prompts = [Prompt(text, seed) for text, seed in zip(texts, seeds_of(texts, 1), strict=True)]
        knowledge = knowledge or emoji.knowledge(parsed.name)
        detector = detector or registry.load("detectors", "emoji_judge").for_concept(parsed.name)
        return Scene(target, original, parsed, knowledge, detector, prompts, STEPS, GUIDANCE_SCALE, PROTOCOLS[protocol])
    missing = [n for n, v in {"--prompts": prompts, "--knowledge": knowledge, "--detector": detector}.items() if v is None]
    if prompts is None or knowledge is None or detector is None:
        raise InputError(f"This model has none of its own: give {' and '.join(missing)}.")
    return Scene(target, original, parsed, knowledge, detector, prompts, protocol=PROTOCOLS[protocol])


def erase(
    model: StableDiffusion | str,
    concepts: str | list[str],
    *,
    method: str = "sgrace",
    preset: str | None = None,
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
        preset: the method's preset; its default, if absent.
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
        from .testbeds import emoji  # noqa: PLC0415

        knowledge = [emoji.knowledge(name) for name in parsed]
    kinds = [kind or kind_of(loaded, name) for name in parsed]
    erasure: Erasure = eraser.preset(preset, kinds[0], settings).erase(
        loaded, [Concept.parse(n, k) for n, k in zip(parsed, kinds, strict=True)], knowledge, seed=seed
    )
    return erasure
