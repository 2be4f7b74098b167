"""Names to plug-ins: the built-in table and installed entry points. The one way a name becomes code."""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import Any

from .errors import unknown

_BUILT_IN: dict[str, dict[str, str]] = {
    "attacks": {
        "concept_inversion": "sgrace.attacks.concept_inversion:ConceptInversion",
        "mma_text": "sgrace.attacks.mma:MMA",
        "more_seeds": "sgrace.attacks.controls:MoreSeeds",
        "noise_probe": "sgrace.attacks.noise_probe:NoiseProbe",
        "none": "sgrace.attacks.controls:NoAttack",
        "p4d_k": "sgrace.attacks.p4d:P4DK",
        "p4d_n": "sgrace.attacks.p4d:P4DN",
        "pez": "sgrace.attacks.pez:PEZ",
        "random_tokens": "sgrace.attacks.controls:RandomTokens",
        "ring_a_bell_hard": "sgrace.attacks.ring_a_bell:RingABellHard",
        "ring_a_bell_soft": "sgrace.attacks.ring_a_bell:RingABellSoft",
        "unlearn_diff_atk": "sgrace.attacks.unlearn_diff_atk:UnlearnDiffAtk",
    },
    "detectors": {
        "always": "sgrace.detectors.constant:Always",
        "clip_zero_shot": "sgrace.detectors.clip_zero_shot:ClipZeroShot",
        "emoji_judge": "sgrace.detectors.emoji_judge:EmojiJudge",
        "image_classifier": "sgrace.detectors.image_classifier:ImageClassifier",
        "never": "sgrace.detectors.constant:Never",
        "nudenet": "sgrace.detectors.nudenet:NudeNet",
        "open_nsfw": "sgrace.detectors.open_nsfw:OpenNSFW",
        "q16": "sgrace.detectors.q16:Q16",
    },
    "erasers": {
        "adv_unlearn": "sgrace.erasers.adv_unlearn:AdvUnlearn",
        "concept_ablation": "sgrace.erasers.concept_ablation:ConceptAblation",
        "des": "sgrace.erasers.des:DES",
        "erasediff": "sgrace.erasers.erasediff:EraseDiff",
        "esd": "sgrace.erasers.esd:ESD",
        "forget_me_not": "sgrace.erasers.forget_me_not:ForgetMeNot",
        "hirm": "sgrace.erasers.hirm:HiRM",
        "mace": "sgrace.erasers.mace:MACE",
        "race": "sgrace.erasers.race:RACE",
        "rece": "sgrace.erasers.rece:RECE",
        "receler": "sgrace.erasers.receler:Receler",
        "safree": "sgrace.erasers.safree:SAFREE",
        "salun": "sgrace.erasers.salun:SalUn",
        "sgrace": "sgrace.erasers.sgrace:SGrace",
        "sld": "sgrace.erasers.sld:SLD",
        "speed": "sgrace.erasers.speed:SPEED",
        "spm": "sgrace.erasers.spm:SPM",
        "stereo": "sgrace.erasers.stereo:STEREO",
        "uce": "sgrace.erasers.uce:UCE",
    },
    "guidance": {"safree": "sgrace.erasers.safree:SAFREEGuidance", "sld": "sgrace.erasers.sld:SLDGuidance"},
    "models": {"emoji": "sgrace.emoji:path"},
}


def names(family: str) -> dict[str, str]:
    """Name -> where it comes from, of every plug-in of a family (entry-point group ``sgrace.<family>``)."""
    found = dict(_BUILT_IN[family])
    for point in metadata.entry_points(group=f"sgrace.{family}"):
        found.setdefault(point.name, point.value)
    return found


def load(family: str, name: str) -> Any:  # noqa: ANN401  (the family decides the type)
    """The plug-in of a name.

    Raises:
        InputError: no plug-in has that name; the error names the nearest one.
    """
    known = names(family)
    if name not in known:
        raise unknown(family.removesuffix("s"), name, known)
    module, _, attribute = known[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
