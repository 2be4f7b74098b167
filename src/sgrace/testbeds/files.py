"""The testbed of a model that has none: what the user gives, in files or as objects."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from .._util.errors import InputError, InputWarning
from ..attacks import Prompt
from ..concept import Concept, Kind
from ..detectors import Detector
from ..knowledge import Knowledge, told
from ..metrics.extractor import Extractor
from .base import PromptSet, Testbed
from .questions import Questions

#: What an attack needs, and the option of the command line that gives it.
OPTIONS = {"prompts": "--prompts", "words": "--words", "detector": "--detector"}


class FileTestbed(Testbed):
    """Words, prompts and detector as given; the rest comes from the model's own testbed, if it has one.

    Args:
        words: of the concept, or of several concepts by name.
        prompts: prompt table.
        detector: the detector itself, or a name.
        detector_options: options of a detector that is given by name, as text.
        kind: of the concept.
        fallback: testbed of the model.
    """

    name = "files"

    def __init__(
        self,
        words: Knowledge | Mapping[str, Knowledge] | None = None,
        prompts: Sequence[Prompt] | None = None,
        detector: Detector | str | None = None,
        *,
        detector_options: Mapping[str, str] | None = None,
        kind: Kind | None = None,
        fallback: Testbed | None = None,
    ) -> None:
        self._words = words
        self._prompts = prompts
        self._detector = detector
        self._detector_options = detector_options
        self._kind = kind
        self._fallback = fallback
        if fallback is not None:
            self.num_inference_steps = fallback.num_inference_steps
            self.guidance_scale = fallback.guidance_scale
        if fallback is not None and prompts is None:  # a table that is given is one set
            self.prompt_sets = fallback.prompt_sets

    def kind_of(self, name: str) -> Kind | None:
        """As given; else from the model's own testbed.

        That testbed must know the concept, unless the concept's words are given.
        """
        if self._kind is not None or self._fallback is None:
            return self._kind
        if self._words is not None and not self._fallback.knows(name):
            return None
        return self._fallback.kind_of(name)

    def missing(self) -> tuple[str, ...]:
        """What was not given and no other testbed has."""
        if self._fallback is not None:
            return ()
        given = {"prompts": self._prompts, "words": self._words, "detector": self._detector}
        return tuple(name for name, value in given.items() if value is None)

    def words(self, concept: Concept) -> Knowledge:
        """As given, without those that must not be protected; a warning names these."""
        found = self._words
        if isinstance(found, Mapping):
            found = found.get(concept.name)
        if found is not None:
            found, dropped = found.guarded(concept.name)
            if dropped:
                warnings.warn(told(dropped), InputWarning, stacklevel=2)
            return found
        return self._own("words").words(concept)

    def prompts(self, concept: Concept, n: int, prompt_set: PromptSet = "test") -> list[Prompt]:
        """As given, all of them."""
        if self._prompts is not None:
            return list(self._prompts)
        return self._own("prompts").prompts(concept, n, prompt_set)

    def detector(
        self, concept: Concept, name: str | None = None, options: Mapping[str, str] | None = None
    ) -> Detector:
        """As given; see :meth:`Testbed.detector`."""
        if name is None and isinstance(self._detector, Detector):
            return self._detector
        if name is None and self._detector is not None:
            name = str(self._detector)
            options = self._detector_options
        if self._fallback is not None:
            return self._fallback.detector(concept, name, options)
        if name is None:
            raise self._missing("detector")
        return super().detector(concept, name, options)

    def questions(
        self, concept: Concept, n: int, seed: int = 0, prompt_set: PromptSet = "test"
    ) -> Questions | None:
        """Of the model's own testbed, if it knows the concept."""
        if self._fallback is None or not self._fallback.knows(concept.name):
            return None
        return self._fallback.questions(concept, n, seed, prompt_set)

    def features(self) -> Extractor | None:
        """Of the model's own testbed."""
        return self._fallback.features() if self._fallback else None

    def reference(self, concept: Concept, suite: str) -> Path | None:
        """Of the model's own testbed."""
        return self._fallback.reference(concept, suite) if self._fallback else None

    def _own(self, part: str) -> Testbed:
        if self._fallback is None:
            raise self._missing(part)
        return self._fallback

    def _missing(self, part: str) -> InputError:
        return InputError(f"This model has no {part} of its own: give {OPTIONS[part]}.")
