"""A model is attacked."""

from __future__ import annotations

from pathlib import Path

from ..._util import registry
from ...testbeds.loading import LoadOptions
from ...testbeds.scenes import prepare
from ..cell import Cell
from .common import ATTACK_SET, Folders, given, target_of


def make(cell: Cell, folder_of: Folders, out: Path, options: LoadOptions) -> None:
    """Attack the cell's target."""
    config = cell.config
    loaded = target_of(cell, folder_of, options)
    if config["control"] == "random_denoiser":
        loaded = loaded._replace(target=loaded.target.with_random_denoiser())
    scene, _ = prepare(loaded, n_prompts=config["n_prompts"], **given(cell))
    attack = registry.load("attacks", config["attack"]).preset(config["effort"])
    attack.run_in(out / ATTACK_SET, scene, seed=config["seed"], every_prompt=config["every_prompt"])
