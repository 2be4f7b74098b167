"""What one process holds against the others; the system lets go of it when the process dies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError
from .text import shown

try:
    import fcntl
except ImportError:  # Windows has other locks; there, two processes at once are not told apart
    HAS_LOCKS = False
else:
    HAS_LOCKS = True


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold a file or folder against other processes; False if another one holds it."""
    if not HAS_LOCKS:
        yield True
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield _lock(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


@contextmanager
def held_alone(path: Path, name: Path) -> Iterator[None]:
    """Hold a file or folder that stands for ``name``.

    Raises:
        InputError: another process holds it.
    """
    with held(path) as is_free:
        if not is_free:
            raise InputError(f"Another process is writing {shown(name)}; wait for it, or name another place.")
        yield
