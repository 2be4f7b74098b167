"""Silence of other libraries while they load something."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from logging import CRITICAL
from typing import Any

from ..._util.errors import InputWarning


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Nothing but exceptions from other libraries, which tell the rest again: no notes and no bars."""
    from diffusers.utils import logging as of_diffusers  # noqa: PLC0415  (slow to import)
    from huggingface_hub.utils import logging as of_hub  # noqa: PLC0415
    from transformers.utils import logging as of_transformers  # noqa: PLC0415

    loggers = (of_diffusers, of_hub, of_transformers)
    levels = [logging.get_verbosity() for logging in loggers]
    for logging in loggers:
        logging.set_verbosity(CRITICAL)
    try:
        with warnings.catch_warnings(), _no_bars():
            warnings.simplefilter("ignore")
            warnings.simplefilter("default", InputWarning)
            yield
    finally:
        for logging, level in zip(loggers, levels, strict=True):
            logging.set_verbosity(level)


@contextmanager
def _no_bars() -> Iterator[None]:
    from diffusers.utils import logging as of_diffusers  # noqa: PLC0415  (slow to import)
    from huggingface_hub import utils  # noqa: PLC0415
    from transformers.utils import logging as of_transformers  # noqa: PLC0415

    hub: Any = utils
    with_bars = [each for each in (of_diffusers, of_transformers) if each.is_progress_bar_enabled()]
    hub_has_bars = not hub.are_progress_bars_disabled()
    for each in with_bars:
        each.disable_progress_bar()
    hub.disable_progress_bars()
    try:
        yield
    finally:
        for each in with_bars:
            each.enable_progress_bar()
        # transformers has switched the hub's bars with its own
        (hub.enable_progress_bars if hub_has_bars else hub.disable_progress_bars)()
