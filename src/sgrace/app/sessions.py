"""All pages of a server: none sees another's state, and what a page leaves is removed."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

from .._util.errors import InputError
from .files import Packed
from .session import Session
from .shelf import Shelf
from .work import Desk

MAX_SESSIONS = 64
#: Pages that ask for nothing for so long, in seconds, are closed.
IDLE = 2 * 60 * 60


class Key(NamedTuple):
    """Whose page: the secret of the browser, which scripts cannot read, and the page within the browser."""

    browser: str
    page: str


class Sessions:
    """Pages by key.

    Args:
        shelf: models that they may choose.
        limit: most pages at once.
        idle: seconds after which a page that asks for nothing is closed.

    Attributes:
        folder: of all pages; it is removed by :meth:`close`.
    """

    def __init__(self, shelf: Shelf, *, limit: int = MAX_SESSIONS, idle: float = IDLE) -> None:
        self.shelf = shelf
        self.desk = Desk()
        self.folder = Path(tempfile.mkdtemp(prefix="sgrace-app-"))  # others cannot read it
        self._limit = limit
        self._idle = idle
        self._count = 0
        self._sessions: dict[Key, Session] = {}
        self._lock = threading.Lock()

    def of(self, key: Key) -> Session:
        """The session of a page, new where the page is.

        Raises:
            InputError: there are too many.
        """
        self.sweep()
        with self._lock:
            if key not in self._sessions:
                if len(self._sessions) >= self._limit:
                    raise InputError("Too many pages are open on this server; try again later.")
                self._count += 1
                self._sessions[key] = Session(self.shelf, self.desk, self.folder / str(self._count))
            return self._sessions[key]

    def end(self, key: Key) -> None:
        """A page was left: end its work and remove its files."""
        with self._lock:
            session = self._sessions.pop(key, None)
        if session is not None:
            session.close()

    def sweep(self) -> None:
        """End the pages that have asked for nothing for too long and do nothing."""
        now = time.monotonic()
        with self._lock:
            old = [k for k, s in self._sessions.items() if not s.busy and now - s.seen > self._idle]
        for key in old:
            self.end(key)

    def packed(self, browser: str, secret: str) -> Packed | None:
        """The file of a secret name, if a page of this browser has made it."""
        with self._lock:
            own = [session for key, session in self._sessions.items() if key.browser == browser]
        return next((session.packed[secret] for session in own if secret in session.packed), None)

    def close(self) -> None:
        """End all pages and remove everything."""
        with self._lock:
            keys = list(self._sessions)
        for session in self._sessions.values():
            session.cancel()
        for key in keys:
            self.end(key)
        self.desk.close()
        shutil.rmtree(self.folder, ignore_errors=True)
