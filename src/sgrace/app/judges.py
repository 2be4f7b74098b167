"""Detectors that a server's owner allows for its pages: by label, and none that must be downloaded."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from .._util.errors import InputError
from .._util.hub import HUB_ID
from .._util.settings import config_from, parse_pairs
from ..concept import Concept
from ..detectors import Detector
from ..detectors.base import Options
from ..knowledge import Knowledge
from ..models.origin import exists
from ..testbeds.base import Testbed, find_detector
from . import typed

OPTION = "--detector"
#: Options of detectors that name the network.
SOURCES = ("source", "clip")
#: Less of a path tells nothing.
SHORTEST = 6
#: Words of what else an image may show, where the owner named none.
N_OTHERS = 24
NONE = (
    "This model brings no detector and this server allows none, so nobody can say what its images show: "
    f"whoever runs the server names one with `sgrace app {OPTION} NAME`."
)


class Allowed(NamedTuple):
    """One detector: its name, and its options as text."""

    name: str
    options: Mapping[str, str]

    @property
    def lacks(self) -> str:
        """Why it cannot be used on this machine, in a sentence; empty where its network is there."""
        config = _config(self)
        named = [str(value) for name in SOURCES if (value := getattr(config, name, None))]
        missing = next((each for each in named if not _is_here(each)), None)
        if missing is None:
            return ""
        if not HUB_ID.fullmatch(missing):
            return f"The detector {self.name} needs {Path(missing).name!r}, and there is no such file."
        return (
            f"The detector {self.name} needs {missing!r}, which is not on this server; whoever runs it "
            f"downloads it first: `hf download {missing}`."
        )


class Judges:
    """Detectors by the label that pages know them by. No page can name another, and none sees a path."""

    def __init__(self, allowed: Mapping[str, Allowed] | None = None) -> None:
        self._allowed = dict(allowed or {})
        self._last: tuple[object, Detector] | None = None

    @classmethod
    def parse(cls, texts: Sequence[str]) -> Self:
        """From texts of the form ``NAME KEY=VALUE KEY=VALUE``.

        Raises:
            InputError: there is no such detector or option.
        """
        found: dict[str, Allowed] = {}
        for text in texts:
            try:
                name, *pairs = shlex.split(text) or [""]
            except ValueError as error:
                raise InputError(f"{OPTION} takes 'NAME KEY=VALUE', not {text[:60]!r} ({error}).") from error
            allowed = Allowed(name, parse_pairs(pairs, OPTION))
            _config(allowed)
            same = sum(each.name == name for each in found.values())
            found[f"{name} ({same + 1})" if same else name] = allowed
        return cls(found)

    @property
    def labels(self) -> list[str]:
        """Of all detectors."""
        return list(self._allowed)

    @property
    def lacking(self) -> list[str]:
        """A sentence for each detector that cannot be used on this machine."""
        return [sentence for each in self._allowed.values() if (sentence := each.lacks)]

    def check(self, label: object, testbed: Testbed) -> str:
        """The label of an allowed detector; empty for the model's own.

        Raises:
            InputError: it is none, or the model has none of its own.
        """
        if label is not None and label != "":
            return typed.one_of(label, "detector", self._allowed)
        if "detector" not in testbed.missing():
            return ""
        if not self._allowed:
            raise InputError(NONE)
        raise InputError("This model brings no detector: choose one from the list.")

    def detector(self, label: str, concept: Concept, testbed: Testbed) -> Detector:
        """The detector of a label for a concept; the last one is kept.

        Args:
            label: as :meth:`check` gives it.
            concept: what it sees.
            testbed: of the model; it may have a detector of that name, and has the words.

        Raises:
            InputError: its network is not on this machine, or it does not know the concept.
        """
        allowed = self._allowed[label]
        if allowed.lacks:
            raise InputError(allowed.lacks)
        options = _completed(allowed, testbed.words(concept))
        key = (type(testbed), label, concept, tuple(options.items()))
        if self._last is None or self._last[0] != key:
            try:
                made = testbed.detector(concept, allowed.name, options)
            except InputError as error:
                raise InputError(_without_paths(str(error), options.values())) from error
            self._last = (key, made)
        return self._last[1]


def _completed(allowed: Allowed, words: Knowledge) -> dict[str, str]:
    """The options, and for a detector that compares words those of the page where the owner named none."""
    options = dict(allowed.options)
    if "others" in find_detector(allowed.name).options_type.model_fields and not options.get("others"):
        usable = [word for word in words.unrelated if "," not in word]
        options["others"] = ",".join(usable[:N_OTHERS])
    return options


def _config(allowed: Allowed) -> Options:
    """The options, checked.

    Raises:
        InputError: there is no such detector or option.
    """
    kind: type[Options] = find_detector(allowed.name).options_type
    return config_from(kind, {}, allowed.options, "option", f"detector {allowed.name!r}")


def _is_here(source: str) -> bool:
    """Whether a network lies on this machine: as a folder, or in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415  (takes time to import)

    if exists(source):
        return True
    try:
        return isinstance(try_to_load_from_cache(source, "config.json"), str)
    except ValueError:  # no name of a repository
        return False


def _without_paths(text: str, values: Iterable[str]) -> str:
    """A sentence in which files of the server are called by their names alone, where it is cut off too."""
    for value in values:
        if exists(value):
            for end in range(len(value), SHORTEST, -1):
                text = text.replace(value[:end], Path(value).name)
    return text
