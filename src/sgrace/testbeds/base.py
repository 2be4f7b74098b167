"""What a testbed is."""

from __future__ import annotations

from abc import ABC
from typing import ClassVar


class Testbed(ABC):
    """What a model brings with it so that erasing can be judged.

    Attributes:
        name: plug-in name.
    """

    name: ClassVar[str]
