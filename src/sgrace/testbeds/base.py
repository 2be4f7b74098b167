"""What a model brings with it so that erasing can be judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from .._util import registry
from .._util.errors import InputError, unknown
from ..attacks import Prompt
from ..concept import Concept, Kind
from ..detectors import Detector
from ..knowledge import Knowledge
from ..metrics.extractor import Extractor
from ..models import DiffusionModel
from .questions import Questions

#: Prompts and synonyms of the sets share nothing: settings are chosen on one, tables made on the other.
PromptSet = Literal["validation", "test"]


class Testbed(ABC):
    """Words, prompts, detector, questions, features and reference of a model.

    Attributes:
        name: plug-in name; it is what :attr:`DiffusionModel.testbed` holds.
        num_inference_steps: of every image that is judged.
        guidance_scale: of images of prompts that have none of their own.
        detectors: detectors that only this testbed has, by name; they come before the general ones.
        default_detector: decides success where none is named.
        prompt_sets: sets that its prompts and questions have.
    """

    name: ClassVar[str]
    num_inference_steps: int = 25
    guidance_scale: float = 7.5
    detectors: ClassVar[Mapping[str, type[Detector]]] = {}
    default_detector: ClassVar[str] = ""
    prompt_sets: tuple[PromptSet, ...] = ("test",)

    def path(self) -> Path | None:
        """Folder of the pipeline that the testbed belongs to; None if it comes without a model."""
        return None

    def folders(self) -> tuple[Path, ...]:
        """Folders of all files that the testbed's model consists of."""
        path = self.path()
        return () if path is None else (path,)

    def completed(self, model: DiffusionModel) -> DiffusionModel:
        """The model of :meth:`path` with the networks in place that only this testbed has.

        Raises:
            InputError: parts were loaded for networks that are replaced.
        """
        return model

    @abstractmethod
    def kind_of(self, name: str) -> Kind | None:
        """Kind of a concept; None if it is unknown.

        Raises:
            InputError: the testbed has no such concept; the error names the nearest.
        """

    def knows(self, name: str) -> bool:
        """Whether the testbed has such a concept."""
        try:
            self.kind_of(name)
        except InputError:
            return False
        return True

    def resolve(self, name: str | Concept, kind: Kind | None = None) -> Concept:
        """The concept of a name, with its kind where it is known.

        Args:
            name: as the user wrote it, or parsed already.
            kind: overrides the testbed's own.

        Raises:
            InputError: the name is not readable, or the testbed has no such concept; the error names the
                nearest.
        """
        parsed = Concept.parse(name, kind)
        return Concept.parse(parsed, parsed.kind or self.kind_of(parsed.name))

    def concepts(self) -> tuple[str, ...]:
        """Concepts to choose from; there may be more that it knows."""
        return ()

    def missing(self) -> tuple[str, ...]:
        """What an attack needs and the testbed lacks: any of ``prompts``, ``words`` and ``detector``."""
        return ()

    @abstractmethod
    def words(self, concept: Concept) -> Knowledge:
        """Words of the concept's space."""

    @abstractmethod
    def prompts(self, concept: Concept, n: int, prompt_set: PromptSet = "test") -> list[Prompt]:
        """Up to n prompts that ask for the concept, never used in erasing."""

    def detector(
        self, concept: Concept, name: str | None = None, options: Mapping[str, str] | None = None
    ) -> Detector:
        """A detector of the concept.

        Args:
            concept: what it sees.
            name: of one of the testbed's own detectors, or of any other; the testbed's default, if absent.
            options: single options as text.

        Raises:
            InputError: there is no such detector or option, or it cannot see the concept.
        """
        chosen = name or self.default_detector
        plugin = self.detectors.get(chosen) or find_detector(chosen)
        found: Detector = plugin.for_concept(concept.name, options)
        return found

    def questions(
        self, concept: Concept, n: int, seed: int = 0, prompt_set: PromptSet = "test"
    ) -> Questions | None:
        """Retention questions of n prompts each, with their judge; None if there is no judge."""
        del concept, n, seed, prompt_set
        return None

    def features(self) -> Extractor | None:
        """Network on whose features images are compared; None if there is none."""
        return None

    def gold(self, concept: Concept) -> Path | None:
        """Folder of the erasure that makes a model that was trained without the concept, if there is any.

        Raises:
            InputError: there is one, and it is not installed.
        """
        del concept
        return None

    def reference(self, concept: Concept, suite: str) -> Path | None:
        """Evaluation of that model by a suite; None if there is none."""
        del concept, suite
        return None


def find_detector(name: str) -> type[Detector]:
    """A detector by name: one of the folder ``detectors``, or one that a testbed brings with it.

    Raises:
        InputError: there is no such detector; the error names the nearest.
    """
    general = registry.names("detectors")
    own: dict[str, type[Detector]] = {}
    if name not in general:
        for testbed in registry.names("testbeds"):
            own |= registry.load("testbeds", testbed).detectors
        if name not in own:
            raise unknown("detector", name, [*general, *own])
    found: type[Detector] = own.get(name) or registry.load("detectors", name)
    return found
