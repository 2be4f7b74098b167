"""P4D-K (Chin et al., arXiv 2309.06135): the prompt stays, with free tokens between its own."""

from __future__ import annotations

from ._token_space import Layout
from .p4d_n import P4DN
from .session import Session


class P4DK(P4DN):
    """The prompt stays, with free tokens between its own.

    What does not fit into the text length is left out at the end, free tokens as well as the prompt's own.
    """

    name = "p4d_k"

    def layout(self, session: Session) -> Layout:
        """One free token before the prompt's first token and after every third."""
        return Layout.interleaved(session.target, [a.prompt for a in session.attempts], self.config.every)
