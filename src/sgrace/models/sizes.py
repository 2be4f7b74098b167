"""Images of another size than a model's own."""

from __future__ import annotations

from typing import Any, TypeVar

from .._util.errors import InputError
from .parts import ModelParts

Model = TypeVar("Model", bound=ModelParts)


def with_size(model: Model, height: int | None, width: int | None) -> Model:
    """The same model, which draws images of this size; nothing is copied.

    Args:
        model: of any family.
        height: in pixels; the model's own, if absent.
        width: alike.

    Raises:
        InputError: a side is no multiple of what one latent, or one token of them, stands for.
    """
    if height is None and width is None:
        return model
    vae: Any = model.components["vae"]
    # each block of the autoencoder but the last halves the size
    pixels = 2 ** (len(vae.config.block_out_channels) - 1)
    given = (height, width)
    sides = [side or own * pixels for side, own in zip(given, model.latent_shape[-2:], strict=True)]
    step = pixels * model.patch_size
    if wrong := [side for side in sides if side % step or side < 0]:
        raise InputError(
            f"This model draws images whose sides are multiples of {step} pixels; {wrong[0]} is none, "
            f"{max(1, round(wrong[0] / step)) * step} is the nearest."
        )
    other = model.replace()
    other.latent_size = (sides[0] // pixels, sides[1] // pixels)
    tokens = other.latent_size[0] * other.latent_size[1] // model.patch_size**2
    other.schedule = model.schedule.resized(tokens)
    return other
