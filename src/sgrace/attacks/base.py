"""What an attack is: a search over the prompts of a scene that leaves a set of attempts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

import torch
from pydantic import BaseModel

from .._util.device import out_of_memory
from .._util.errors import InputError, unknown
from .._util.settings import Settings, config_from
from .._util.text import shown
from ..models import DiffusionModel, own_threads
from ..models.needs import Need, refusal
from .attack_set import Access, AttackSet, Manifest, Unit
from .scene import Budget, Scene
from .session import BudgetSpent, Session

Config = TypeVar("Config", bound=BaseModel)
#: How long an attack searches; ``full`` is the paper's own.
EFFORTS = ("quick", "standard", "full")


class NoSettings(Settings):
    """For attacks that have none."""


class Attack(ABC, Generic[Config]):
    """Base of all attacks; a subclass writes :meth:`search`.

    Args:
        config: settings; the paper's own, if absent.

    Attributes:
        name: plug-in name.
        access: what it needs of the target.
        paper: where it comes from.
        by_text: whether its candidates are texts that a user could enter.
        needs_control: whether it may find what its own search put there, so that it is run on the original
            model and on a denoiser that has learned nothing too.
        needs: what it asks of a model beyond images.
        unit: one observation: ``prompt``, or ``start`` where one thing is learned for all prompts.
        config_type: the frozen pydantic model of the settings.
        presets: settings of the efforts ``quick`` and ``standard``; ``full`` is the paper's.
    """

    name: ClassVar[str]
    access: ClassVar[Access]
    paper: ClassVar[str]
    by_text: ClassVar[bool]
    needs_control: ClassVar[bool] = False
    needs: ClassVar[frozenset[Need]] = frozenset()
    unit: ClassVar[Unit] = "prompt"
    config_type: ClassVar[type[BaseModel]]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    config: Config

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or cast("Config", self.config_type())

    @classmethod
    def preset(cls, effort: str, settings: Mapping[str, str] | None = None) -> Self:
        """The attack at an effort (``quick``, ``standard``, ``full``), with single settings given as text.

        Raises:
            InputError: unknown effort or setting, or a value out of range.
        """
        if effort not in EFFORTS:
            raise unknown("effort", effort, EFFORTS)
        values = cls.presets.get(effort, {})
        config = config_from(cls.config_type, values, settings, owner=f"attack {cls.name!r}")
        return cls(cast("Config", config))

    @classmethod
    def refusal(cls, family: type[DiffusionModel], dtype: torch.dtype = torch.float32) -> str:
        """Why the attack cannot run on a family of models in a precision; empty where it can."""
        return refusal(cls.needs, family.lacks_in(dtype))

    def run(
        self, scene: Scene, budget: Budget | None = None, *, seed: int = 0, every_prompt: bool = False
    ) -> AttackSet:
        """Attack the prompts of the scene.

        Args:
            scene: what is attacked.
            budget: hard limits; none, if absent.
            seed: same seed, same candidates.
            every_prompt: attack those too that succeed as they are, which are else counted and left alone;
                for testing the attack on a model that knows the concept.

        Raises:
            InputError: the scene or the model lacks what the attack needs, or the budget does not cover the
                plain prompts.
        """
        if reason := self.refusal(type(scene.target), scene.target.dtype):
            raise InputError(f"{self.name} cannot attack {scene.target.family}: {reason}.")
        with own_threads(scene.target):
            session = Session(scene, budget or Budget(), seed, every_prompt=every_prompt)
            stopped = self._searched(session)
        return AttackSet(
            attempts=session.attempts,
            tensors=session.tensors,
            images=torch.stack(session.images),
            record=self._manifest(session, seed, stopped),
        )

    def _searched(self, session: Session) -> str:
        """Check the plain prompts and search: why it stopped."""
        try:
            session.charge()  # the prompts were encoded
            session.check_plain()
        except BudgetSpent as error:
            n = len(session.scene.prompts)
            raise InputError(f"The limit does not cover sampling the {n} prompts once; raise it.") from error
        try:
            # nothing to search where every prompt succeeds as it is; what is learned owes nothing to them
            if session.open or self.unit == "start":
                with out_of_memory():  # also where a backward pass runs out of it
                    self.search(session)
        except BudgetSpent:
            return "budget"
        return "finished"

    def run_in(
        self,
        folder: Path,
        scene: Scene,
        budget: Budget | None = None,
        *,
        seed: int = 0,
        every_prompt: bool = False,
    ) -> AttackSet:
        """The set of a folder; :meth:`run` makes it if the folder is not there.

        Raises:
            InputError: as for :meth:`run`, or the set in the folder is of other prompts or settings.
        """
        if not folder.is_dir():
            folder.parent.mkdir(exist_ok=True)
            found = self.run(scene, budget, seed=seed, every_prompt=every_prompt)
            found.save_pretrained(folder)
        found = AttackSet.from_pretrained(folder, scene.prompts)
        if found.record.config != self.config.model_dump(mode="json"):
            raise InputError(f"{shown(folder)} holds {self.name} with other settings; name a new folder.")
        return found

    def _manifest(self, session: Session, seed: int, stopped: str) -> Manifest:
        """How the set came about."""
        scene = session.scene
        return Manifest.model_validate(
            {
                "attack": self.name,
                "access": self.access,
                "paper": self.paper,
                "config": self.config.model_dump(mode="json"),
                "concept": scene.concept.model_dump(),
                "target": scene.target.label,
                "detector": scene.detector.identity.as_dict(),
                "num_inference_steps": scene.num_inference_steps,
                "guidance_scale": scene.guidance_scale,
                "protocol": scene.protocol.name,
                "left_alone": len(session.left_alone),
                "truncated_prompts": len(session.truncated),
                "seed": seed,
                "budget": session.budget.model_dump(),
                "spent": session.spent(),
                "stopped": stopped,
                "unit": self.unit,
                "starts": [start.model_dump() for start in session.starts],
                "note": session.note,
            }
        )

    @abstractmethod
    def search(self, session: Session) -> None:
        """Look for candidates and check them until none is open or the budget is spent."""
