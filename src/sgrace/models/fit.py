"""Whether the networks of a model belong together."""

from __future__ import annotations

from typing import Any

from .._util.errors import InputError
from .parts import ModelParts


def check_fit(model: ModelParts) -> None:
    """Check that text encoders give what the denoiser reads, and the denoiser what the autoencoder decodes.

    Raises:
        InputError: a width or a number of channels differs.
    """
    reads = _read_by(model)
    whole = [own for own in model.text if own.place is not None and own.place.columns == slice(None)]
    # encoders side by side are filled up with zeros in some families; one on its own has the whole width
    for gives in [model.prompt_embeds_shape[1], *(own.width for own in whole)]:
        if gives != reads:
            raise _misfit(model, f"text encoders give prompt embeddings {gives} wide", f"reads {reads}")
    gives, reads = model.pooled_widths
    if gives != reads:
        raise _misfit(model, f"text encoders give pooled text {gives} wide", f"reads {reads}")
    vae: Any = model.components["vae"]
    decodes = vae.config.get("latent_channels", 0)
    if decodes != model.latent_shape[0]:
        channels = f"autoencoder decodes latents of {decodes} channels"
        raise _misfit(model, channels, f"makes {model.latent_shape[0]}")


def _read_by(model: ModelParts) -> int:
    """Width of the prompt embeddings that the denoiser reads."""
    groups = model.denoiser_map.groups
    # they enter through one layer, or in every cross-attention
    site = groups["inlet" if "inlet" in groups else "text_kv"]
    # a matrix (out, width), or a norm (width,)
    return next(value.shape[-1] for name, value in model.denoiser.named_parameters() if site(name))


def _misfit(model: ModelParts, gives: str, reads: str) -> InputError:
    return InputError(f"{model.label}: its {gives}, but its denoiser {reads}: they do not belong together.")
