"""Less work under the same command lines: for tests of pages, whose commands take minutes to hours.

Everything is real but for lengths. Presets, efforts and suites keep their names and are checked as ever; then
whole numbers in the settings of erasers and attacks become those of the contract tests, where these are
smaller. Suites keep three of their attacks, one of each kind, unless the command line names attacks, and no
concept space. A testbed has one prompt, and two images of each question; images take one step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from sgrace.attacks.base import Attack
from sgrace.cli import main
from sgrace.erasers.base import Eraser
from sgrace.evaluation import before_after, suites
from sgrace.testbeds.base import Testbed
from sgrace.testbeds.emoji import EmojiTestbed

from .attacks.cases import CASES as ATTACKS
from .erasers.cases import CASES as ERASERS

#: Kept of a suite: a control, a search for a prompt, and one with the weights.
KEPT = ("none", "unlearn_diff_atk", "ring_a_bell_soft")
#: Lengths that the tiny models of the contract tests have no need to shorten.
MORE = {"sgrace": {"retain_pool": "8", "n_pairs": "1"}}
STEPS = 1


def shortened(plugin: Any, case: Mapping[str, str]) -> Any:
    """The plug-in with smaller whole numbers in its settings; shares, rates and choices stay."""
    lengths = {name: int(value) for name, value in case.items() if type(getattr(plugin.config, name)) is int}
    smaller = {name: min(value, getattr(plugin.config, name)) for name, value in lengths.items()}
    plugin.config = plugin.config.model_copy(update=smaller)
    return plugin


def short_presets(kind: type, cases: Mapping[str, Mapping[str, str]]) -> Callable[..., Any]:
    """``preset`` of erasers or attacks, which shortens what it returns where there is a case."""
    whole = vars(kind)["preset"].__func__

    def preset(cls: Any, *args: Any, **named: Any) -> Any:
        return shortened(whole(cls, *args, **named), cases.get(cls.name, {}))

    return classmethod(preset)  # type: ignore[return-value]


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every erasure, attack, evaluation and image short until the test ends."""
    erasers = {name: {**case.short, **MORE.get(name, {})} for name, case in ERASERS.items()}
    attacks = {name: case.short for name, case in ATTACKS.items()}
    monkeypatch.setattr(Eraser, "preset", short_presets(Eraser, erasers))
    monkeypatch.setattr(Attack, "preset", short_presets(Attack, attacks))
    for name, suite in suites.SUITES.items():
        kept = tuple(attack for attack in suite.attacks if attack in KEPT)
        less = replace(suite, attacks=kept, n_prompts=1, n_images=2, n_space=0)
        monkeypatch.setitem(suites.SUITES, name, less)
    for name in suites.N_PROMPTS:
        monkeypatch.setitem(suites.N_PROMPTS, name, 1)
    monkeypatch.setattr(before_after, "before_after", partial(before_after.before_after, n=1))
    for testbed in (Testbed, EmojiTestbed):
        monkeypatch.setattr(testbed, "num_inference_steps", STEPS)
    options = {param.name: param for param in main.commands["generate"].params}
    monkeypatch.setattr(options["num_inference_steps"], "default", STEPS)
