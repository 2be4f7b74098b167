"""A language model without a model: a local server that speaks the chat-completions protocol."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What the server does with one request.

    Attributes:
        body: of the answer.
        status: of HTTP.
        headers: beside those that every answer has.
        wait: seconds before the answer.
        drops: pieces in which the body comes, each after ``wait`` again.
    """

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    wait: float = 0.0
    drops: int = 1


def says(content: str, **options: Any) -> Reply:
    """An answer of the model."""
    message = {"role": "assistant", "content": content}
    body = {"id": "1", "object": "chat.completion", "choices": [{"index": 0, "message": message}]}
    return Reply(json.dumps(body).encode(), **options)


#: The rate is limited; the client asks again at once.
LIMITED = Reply(b'{"error": {"message": "slow down"}}', status=429, headers={"retry-after-ms": "1"})


@dataclass
class Server:
    """The address of a server, and what it was asked."""

    url: str
    asked: list[dict[str, Any]]
    keys: list[str]


@contextmanager
def serving(*replies: Reply) -> Iterator[Server]:
    """A server that gives these replies in turn, and the last one for ever."""
    found = Server("", [], [])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            found.keys.append(self.headers["Authorization"])
            reply = replies[min(len(found.asked), len(replies)) - 1]
            if self.path != "/v1/chat/completions":
                reply = Reply(b"", status=404)
            time.sleep(reply.wait)
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self._write(_pieces(reply.body, reply.drops), reply.wait)

        def _write(self, pieces: Sequence[bytes], wait: float) -> None:
            try:
                for piece in pieces:
                    self.wfile.write(piece)
                    self.wfile.flush()
                    time.sleep(wait if len(pieces) > 1 else 0)
            except OSError:
                return  # who asked has gone

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()


def _pieces(body: bytes, n: int) -> list[bytes]:
    size = -(-len(body) // n) or 1
    return [body[at : at + size] for at in range(0, len(body), size)]
