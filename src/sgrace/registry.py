"""Names to plug-ins: the built-in table and installed entry points. The one way a name becomes code."""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import Any

from .errors import unknown

_BUILT_IN: dict[str, dict[str, str]] = {
    "detectors": {
        "always": "sgrace.detectors.constant:Always",
        "clip_zero_shot": "sgrace.detectors.clip_zero_shot:ClipZeroShot",
        "emoji_judge": "sgrace.detectors.emoji_judge:EmojiJudge",
        "image_classifier": "sgrace.detectors.image_classifier:ImageClassifier",
        "never": "sgrace.detectors.constant:Never",
        "nudenet": "sgrace.detectors.nudenet:NudeNet",
        "q16": "sgrace.detectors.q16:Q16",
    },
    "erasers": {"sgrace": "sgrace.erasers.sgrace:SGrace"},
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
