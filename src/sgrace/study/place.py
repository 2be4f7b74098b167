"""Where a study lies: a folder of this machine, or a URL."""

from __future__ import annotations

from pathlib import Path

from .._util.errors import InputError
from .._util.text import reason
from .remote import RemoteStore
from .store import STUDY, Store


def store_at(place: str | Path) -> Store:
    """The store of a place, which need not be there yet; nothing is written.

    Args:
        place: a folder, or a URL that fsspec knows.

    Raises:
        InputError: the folder holds something else, or no package for such URLs is installed.
    """
    store = _store(place)
    if isinstance(store, RemoteStore) or _is_there(store, place):
        return store
    store.check_free()
    return store


def open_store(place: str | Path) -> Store:
    """The store of a place, which is made if it is missing.

    Raises:
        InputError: it holds something else, or cannot be written.
    """
    store = store_at(place)
    store.begin()
    return store


def find_store(place: str | Path) -> Store:
    """The store of a place in which a study was run.

    Raises:
        InputError: none was.
    """
    store = _store(place)
    if not _is_there(store, place):
        raise InputError(f"{str(place)[:120]} holds no study, which `sgrace study run` makes: no {STUDY}.")
    return store


def _store(place: str | Path) -> Store:
    return RemoteStore.at(str(place)) if "://" in str(place) else Store(Path(place))


def _is_there(store: Store, place: str | Path) -> bool:
    """Whether a study was run there; raises InputError where that cannot be told."""
    try:
        return store.is_there()
    except Exception as error:  # a name that no folder can have; file systems of URLs have their own kinds
        raise InputError(f"Cannot read {str(place)[:120]} ({reason(error)}).") from error
