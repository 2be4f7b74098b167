"""One erasure on a page: both models, their images for the same seeds, attacks and the report."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from .. import api
from ..attacks import AttackSet, Prompt
from ..attacks.attack_set import Attempt
from ..concept import Concept
from ..detectors import Detector
from ..erasure import Erasure, at_strength
from ..evaluation import Evaluation
from ..evaluation.before_after import BeforeAfter
from ..models import DiffusionModel
from ..report import write_report
from ..testbeds.base import Testbed
from ..testbeds.loading import Loaded

#: Prompts of which images stand side by side.
N_SHOWN = 6
#: Images of a model for which nobody has a prompt table: the concept's own prompt with so many seeds.
N_PLAIN = 4


class Judged(NamedTuple):
    """By what images are judged: None where the model brings its own."""

    prompts: tuple[Prompt, ...] | None = None
    detector: Detector | None = None


class Row(NamedTuple):
    """One prompt with its images in -1..1; ``attacked`` once an attack ran, with what it found."""

    prompt: Prompt
    original: Tensor
    erased: Tensor
    attacked: Tensor | None = None
    attempt: Attempt | None = None


@dataclass
class Erased:
    """What a page has once a concept is erased.

    Attributes:
        label: of the model.
        original: the model before.
        erasure: what was changed.
        concept: what was erased.
        testbed: of the model and the words.
        outcome: images and shares before and after, and the verdict.
        folder: of all files; nothing else is in it.
        strength: of the images.
        weak: whether it was a quick look.
        note: which typed words were left out.
        sets: attack sets by attack; the last is the one whose images are shown.
        efforts: of these attacks.
        asked: prompts that were attacked last, where somebody gave them or the model brings none.
        evaluation: of the report, once there is one.
    """

    label: str
    original: DiffusionModel
    erasure: Erasure
    concept: Concept
    testbed: Testbed
    outcome: BeforeAfter
    folder: Path
    strength: float = 1.0
    weak: bool = False
    note: str = ""
    sets: dict[str, AttackSet] = field(default_factory=dict)
    efforts: dict[str, str] = field(default_factory=dict)
    asked: tuple[Prompt, ...] = ()
    evaluation: Evaluation | None = None
    _drawn: dict[tuple[float, Prompt], Tensor] = field(default_factory=dict)
    _rows: tuple[Prompt, ...] = ()  # that all images are there of

    @property
    def model(self) -> DiffusionModel:
        """The model with the concept erased."""
        return self.erasure.apply(self.original)

    def _wanted(self) -> list[Prompt]:
        """The prompts whose images are shown; those on which an attack succeeds come first."""
        if self.asked:
            known = list(self.asked)
        elif "prompts" in self.testbed.missing():
            known = [Prompt(self.concept.prompt, seed) for seed in range(N_PLAIN)]
        else:
            known = self.testbed.prompts(self.concept, N_SHOWN)
        attempts = [] if self.last is None else self.last.attempts
        attempted = [Prompt(each.prompt, each.seed) for each in attempts if each.success or each.pre]
        # a table may give a prompt a guidance of its own
        own = {(prompt.text, prompt.seed): prompt for prompt in self.asked}
        attempted = [own.get((prompt.text, prompt.seed), prompt) for prompt in attempted]
        return list(dict.fromkeys((*attempted, *known)))[:N_SHOWN]

    @property
    def last(self) -> AttackSet | None:
        """What the last attack left; its images are shown."""
        return list(self.sets.values())[-1] if self.sets else None

    def draw(self, strength: float) -> None:
        """Make the images of the shown prompts at a strength; if that is ended, those of before stay."""
        prompts = self._wanted()
        self._fill(prompts, 0.0, self.original)
        if strength == 1:
            self._fill(prompts, 1.0, self.model)
        elif strength:
            self._fill(prompts, strength, at_strength(self.erasure, self.original, strength))
        self._rows = tuple(prompts)
        self.strength = strength
        self._drawn = {key: image for key, image in self._drawn.items() if key[0] in {0.0, 1.0, strength}}

    def _fill(self, prompts: Sequence[Prompt], strength: float, model: DiffusionModel) -> None:
        missing = [prompt for prompt in prompts if (strength, prompt) not in self._drawn]
        if not missing:
            return
        own = [prompt.guidance_scale for prompt in missing]
        usual = self.testbed.guidance_scale
        images = model.generate(
            [prompt.text for prompt in missing],
            [prompt.seed for prompt in missing],
            num_inference_steps=self.testbed.num_inference_steps,
            guidance_scale=torch.tensor([usual if scale is None else scale for scale in own])
            if any(own)
            else usual,
        )
        self._drawn |= {(strength, prompt): image for prompt, image in zip(missing, images, strict=True)}

    def rows(self) -> list[Row]:
        """The shown prompts with their images."""
        last = self.last
        attempts = [] if last is None else last.attempts
        place = {(attempt.prompt, attempt.seed): i for i, attempt in enumerate(attempts)}
        rows = []
        for prompt in self._rows:
            row = Row(prompt, self._drawn[0.0, prompt], self._drawn[self.strength, prompt])
            at = place.get((prompt.text, prompt.seed))
            if last is not None and at is not None:
                row = row._replace(attacked=last.images[at], attempt=attempts[at])
            rows.append(row)
        return rows

    def attack(self, name: str, effort: str, judged: Judged) -> None:
        """Try to bring the concept back, and draw the prompts on which that succeeds.

        Raises:
            InputError: there is no such attack or effort, or the model lacks what it needs.
        """
        found = api.attack(
            self._loaded,
            self.concept.name,
            name,
            effort=effort,
            kind=self.concept.kind,
            **judged._asdict(),
        )
        self.sets.pop(name, None)
        self.sets[name] = found
        self.efforts[name] = effort
        self.asked = judged.prompts or ()
        self.draw(self.strength)

    def evaluate(self, suite: str, attacks: Sequence[str], judged: Judged) -> None:
        """Measure by a suite, with these attacks in the place of its own where any are given; write a report.

        Raises:
            InputError: there is no such suite, or the model lacks what it needs.
        """
        out = self.folder / "evaluation"
        shutil.rmtree(out, ignore_errors=True)
        self.evaluation = None
        found = api.evaluate(
            self._loaded,
            self.concept.name,
            suite=suite,
            attacks=attacks,
            kind=self.concept.kind,
            out=out,
            **judged._asdict(),
        )
        write_report(out)
        self.evaluation = found

    @property
    def report(self) -> Path | None:
        """The page of the evaluation, once there is one."""
        return None if self.evaluation is None else self.folder / "evaluation" / "report.html"

    @property
    def _loaded(self) -> Loaded:
        return Loaded(self.model, self.original, self.erasure)
