"""Adversarial attacks on erased models. One file per attack."""

from .attack_set import AttackSet, Attempt
from .base import EFFORTS, Attack
from .scene import PROTOCOLS, Budget, Prompt, Scene

__all__ = ["EFFORTS", "PROTOCOLS", "Attack", "AttackSet", "Attempt", "Budget", "Prompt", "Scene"]
