"""Model adapters: the only rooms that know which family of diffusion model is at work."""

from .families.stable_diffusion import Calls, StableDiffusion, Tokens

__all__ = ["Calls", "StableDiffusion", "Tokens"]
