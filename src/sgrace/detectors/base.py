"""The base class of detectors, and their identity, without which a detection rate means nothing."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, Self

from jaxtyping import Bool, Float
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from torch import Tensor

from .._util.settings import config_from
from ..concept import folded
from ..metrics import Share


class Known(NamedTuple):
    """A detector's scores of known images.

    Attributes:
        positives: scores of images that show the concept.
        negatives: scores of images that do not.
        pictures: where the images come from.
    """

    positives: Float[Tensor, " n"]
    negatives: Float[Tensor, " m"]
    pictures: str

    def record(self, threshold: float) -> dict[str, Any]:
        """True-positive and true-negative rate at a threshold, with 95 % Wilson intervals."""
        seen = int((self.positives >= threshold).sum())
        refused = int((self.negatives < threshold).sum())
        shares = {
            "positives": Share(seen, len(self.positives)),
            "negatives": Share(refused, len(self.negatives)),
        }
        return {
            "pictures": self.pictures,
            **{name: {"hits": share.hits, **share.as_dict()} for name, share in shares.items()},
        }


@dataclass(frozen=True)
class Identity:
    """Everything that decides a detector's verdicts.

    Attributes:
        name: plug-in name.
        version: of the package or model that holds the network.
        weights: SHA-256 of the weights; the hub id if they come from the hub.
        classes: outputs that count as the concept.
        others: words that stand against it, where whoever made the detector chose them.
        threshold: smallest score that counts as a detection, in 0..1.
        colour_order: channel order of the network's input.
        validation: measured true-positive and true-negative rate (:meth:`Known.record`); empty if nobody
            measured it.
    """

    name: str
    version: str
    weights: str
    classes: tuple[str, ...]
    threshold: float
    colour_order: str = "RGB"
    validation: dict[str, Any] = field(default_factory=dict)
    others: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON values: an identity read from a file equals a new one."""
        found: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        if not self.others:  # most detectors have none
            del found["others"]
        return found


def listed(text: object) -> object:
    """The values of a comma-separated text."""
    return tuple(part.strip() for part in text.split(",") if part.strip()) if isinstance(text, str) else text


#: A field of several values; text is split at commas.
Listed = BeforeValidator(listed)


class Options(BaseModel):
    """Options that every detector takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float | None = Field(
        None, ge=0, le=1, description="Smallest score that counts as a detection; default the detector's own."
    )


class Detector(ABC):
    """Scores images for one concept.

    ``scores`` runs the network. ``detect`` compares scores with the threshold, so thresholds can be swept
    without running it again.

    Attributes:
        identity: everything that decides its verdicts.
        known: its scores of known images, if somebody measured them. The validation record depends on the
            threshold.
    """

    name: ClassVar[str]
    options_type: ClassVar[type[Options]] = Options
    identity: Identity
    known: Known | None = None

    @classmethod
    def for_concept(cls, concept: str, options: Mapping[str, str] | None = None) -> Self:
        """The detector of a concept.

        The concept's name matches in any case, with spaces or underscores. Options are given as text.

        Raises:
            InputError: an option is unknown or out of range, or the detector does not know the concept.
        """
        chosen = config_from(cls.options_type, {}, options, "option", f"detector {cls.name!r}")
        made = cls._made(folded(concept), chosen)
        return made if chosen.threshold is None else made.at(chosen.threshold)

    @classmethod
    @abstractmethod
    def _made(cls, concept: str, options: Any) -> Self:  # noqa: ANN401  (of the detector's own type)
        """The detector of a concept, at its own threshold."""

    @abstractmethod
    def scores(self, images: Float[Tensor, "n 3 height width"]) -> Float[Tensor, " n"]:
        """Scores in 0..1 of RGB images in -1..1; higher means the concept is more likely."""

    def detect(self, scores: Float[Tensor, " n"]) -> Bool[Tensor, " n"]:
        """Verdicts at the detector's threshold."""
        return scores >= self.identity.threshold

    def at(self, threshold: float) -> Self:
        """The same detector at another threshold."""
        if not 0 <= threshold <= 1:
            raise ValueError(f"A threshold is in 0..1, not {threshold}.")
        return self._with(replace(self.identity, threshold=threshold), self.known)

    def validated(self, known: Known) -> Self:
        """The same detector with a validation record."""
        return self._with(self.identity, known)

    def _with(self, identity: Identity, known: Known | None) -> Self:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.known = known
        other.identity = replace(identity, validation=known.record(identity.threshold) if known else {})
        return other
