"""The password of a server: who gives it comes in, who guesses waits longer each time."""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

#: After a wrong password nobody at that address is asked for so long, in seconds; twice as long each time.
PAUSE = 1.0
LONGEST = 60.0
#: Addresses and browsers that are remembered; the oldest are forgotten.
REMEMBERED = 10_000


class Wrong(NamedTuple):
    """How often an address gave a wrong password, and until when it is not asked again."""

    times: int
    until: float


class Password:
    """Checks passwords of requests.

    Args:
        secret: the password.
        clock: in seconds.
    """

    def __init__(self, secret: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._secret = secret.encode()
        self._clock = clock
        self._wrong: dict[str, Wrong] = {}
        self._known: dict[str, None] = {}  # browsers that gave it: others' guesses do not keep them out

    def refused(self, headers: Mapping[str, str], address: str, browser: str) -> int:
        """Status with which a request is refused; 0 if it is not.

        Args:
            headers: of the request.
            address: that it comes from.
            browser: the secret in its cookie; empty where there is none.
        """
        if "authorization" not in headers:
            return 401
        now = self._clock()
        before = self._wrong.get(address, Wrong(0, now))
        if now < before.until and browser not in self._known:
            return 429  # right or wrong: many guesses at once would be as good as one after the other
        if self._is_right(headers["authorization"]):
            self._wrong.pop(address, None)
            if browser:
                _remember(self._known, browser, None)
            return 0
        pause = min(PAUSE * 2**before.times, LONGEST)
        _remember(self._wrong, address, Wrong(min(before.times + 1, 10), now + pause))
        return 401

    def _is_right(self, authorization: str) -> bool:
        kind, _, value = authorization.partition(" ")
        try:
            given = base64.b64decode(value).partition(b":")[2]
        except (binascii.Error, ValueError):
            return False
        return kind.lower() == "basic" and secrets.compare_digest(given, self._secret)


def _remember(known: dict[str, Any], key: str, value: object) -> None:
    """Put a value at the end; the oldest goes where there are too many."""
    known.pop(key, None)
    known[key] = value
    if len(known) > REMEMBERED:
        del known[next(iter(known))]
