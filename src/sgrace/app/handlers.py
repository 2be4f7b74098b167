"""From a click to a task and back: progress while it runs, then what it made or one sentence on why not."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import gradio as gr

from .._util.errors import InputError
from . import views
from .guard import browser_of
from .session import Session
from .sessions import Key, Sessions
from .work import Cancelled, Task

#: Between two looks at a running task, in seconds.
LOOK = 0.3
#: New values of components of the page.
Updates = dict[Any, Any]
READY = "Ready."
CANCELLED = "Cancelled; nothing has changed."
FAULT = "Something is wrong on the server; its owner finds the reason in the log."


def key_of(request: gr.Request) -> Key:
    """Whose page a request comes from.

    Raises:
        InputError: the request is of no page of this server.
    """
    browser = browser_of(request.headers.get("cookie", ""))
    if not browser or not request.session_hash:
        raise InputError("This page was not loaded from this server; load it again.")
    return Key(browser, request.session_hash)


class Runner:
    """Runs the tasks of pages.

    Args:
        sessions: of all pages.
        status: shows what goes on.
        cancel: the button that ends it.
        begin: the button that erases.
        rest: what can be used once something is erased.
    """

    def __init__(
        self,
        sessions: Sessions,
        status: gr.HTML,
        cancel: gr.Button,
        begin: gr.Button,
        rest: Sequence[gr.Button | gr.Slider],
    ) -> None:
        self.sessions = sessions
        self.status = status
        self.cancel = cancel
        self.begin = begin
        self.rest = list(rest)

    def run(
        self,
        request: gr.Request,
        start: Callable[[Session], Task],
        show: Callable[[Session, Any], Mapping[Any, Any]],
        *,
        hold: bool = True,
    ) -> Iterator[Updates]:
        """Run one task of a page.

        Args:
            request: of the click.
            start: checks what was typed and queues the task.
            show: new values of the page from what the task made.
            hold: whether buttons cannot be pressed meanwhile.

        Yields:
            New values of components.
        """
        try:
            session = self.sessions.of(key_of(request))
            task = start(session)
        except InputError as error:
            yield {self.status: _told(error)}
            return
        yield self._usable(session, hold=hold)
        while not task.wait(LOOK):
            yield {self.status: views.progress(task, self.sessions.desk.ahead(task))}
        yield {**self._ended(session, task, show), **self._usable(session, hold=hold)}

    def _ended(
        self, session: Session, task: Task, show: Callable[[Session, Any], Mapping[Any, Any]]
    ) -> Updates:
        """What the page shows of a task that has ended."""
        try:
            made = task.result()
            return {self.status: views.message(READY), **show(session, made)}
        except Cancelled:
            return {self.status: views.message(CANCELLED, "doubt")}
        except InputError as error:
            return {self.status: _told(error)}
        except Exception:  # noqa: BLE001  (no traceback on the page)
            traceback.print_exc(file=sys.stderr)
            return {self.status: views.message(FAULT, "bad")}

    def _usable(self, session: Session, *, hold: bool) -> Updates:
        """Which buttons can be pressed: while the page is at work the cancel button, else all others."""
        busy = session.busy
        updates: Updates = {self.cancel: gr.update(interactive=busy)}
        if hold:
            updates[self.begin] = gr.update(interactive=not busy)
            usable = not busy and session.erased is not None
            updates |= {each: gr.update(interactive=usable) for each in self.rest}
        return updates

    def end(self, request: gr.Request) -> None:
        """Cancel what a page has begun."""
        try:
            self.sessions.of(key_of(request)).cancel()
        except InputError:  # there is nothing to cancel
            return

    def leave(self, request: gr.Request) -> None:
        """A page was closed."""
        try:
            self.sessions.end(key_of(request))
        except InputError:
            return


def _told(error: InputError) -> str:
    """An error as the command line tells it: one sentence on one line."""
    return views.message(" ".join(str(error).split()), "bad")
