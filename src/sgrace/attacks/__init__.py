"""Adversarial attacks on erased models. One file per attack."""

from .attack_set import AttackSet, Attempt
from .base import Attack
from .scene import PROTOCOLS, Budget, Prompt, Scene

__all__ = ["PROTOCOLS", "Attack", "AttackSet", "Attempt", "Budget", "Prompt", "Scene"]
