"""Short names of published models."""

from __future__ import annotations

from .origin import exists

#: Short name -> hub id.
PUBLISHED = {
    "sd14": "CompVis/stable-diffusion-v1-4",
    "sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
    "sd35": "stabilityai/stable-diffusion-3.5-medium",
    "flux": "black-forest-labs/FLUX.1-dev",
}


def hub_id_of(name: str) -> str:
    """The hub id that a short name stands for; a folder or file of that name goes first."""
    return name if exists(name) else PUBLISHED.get(name, name)
