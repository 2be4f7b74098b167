"""A hub of folders: a local server that speaks as much of the hub's protocol as down- and uploads need."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
#: The one key that may upload.
KEY = "hf_a_key_of_the_tests"
#: Names of the one revision that every repository has.
REVISIONS = ("main", "v1", COMMIT)


class _Hub(BaseHTTPRequestHandler):
    """Serves ``root/owner/name`` as the repository ``owner/name``."""

    root: Path

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        parts = urlsplit(self.path).path.strip("/").split("/")
        if self.headers["Authorization"] != f"Bearer {KEY}":
            self._send(401, {"error": f"Invalid key in {self.headers['Authorization']}"})
        elif parts == ["api", "repos", "create"]:
            given = json.loads(content)
            name = f"{given['organization']}/{given['name']}"
            (self.root / name).mkdir(parents=True, exist_ok=True)
            self._send(200, {"url": f"{name}", "name": name})
        elif parts[-2] == "preupload":
            files = [{"path": file["path"]} for file in json.loads(content)["files"]]
            self._send(
                200, {"files": [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in files]}
            )
        elif parts[-2] == "commit":
            self._commit(self.root / "/".join(parts[2:4]), content)
        else:
            self._send(200, {})

    def _commit(self, folder: Path, content: bytes) -> None:
        """Write the files of a commit: one JSON object a line."""
        for line in content.splitlines():
            item = json.loads(line)
            if item["key"] == "file":
                path = folder / item["value"]["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(base64.b64decode(item["value"]["content"]))
        # the client checks that it is the hub's own address
        home = f"http://{self.headers['Host']}"
        address = f"{home}/{folder.parent.name}/{folder.name}/commit/{COMMIT}"
        self._send(200, {"commitUrl": address, "commitOid": COMMIT})

    def _send(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer(self, *, with_body: bool) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if parts[:2] == ["api", "models"]:
            body, headers = self._listed(parts[2:])
        else:
            body, headers = self._resolved(parts)
        self.send_response(200 if body is not None else 404)
        for name, value in {**headers, "Content-Length": str(len(body or b""))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body and body:
            self.wfile.write(body)

    def _listed(self, parts: list[str]) -> tuple[bytes | None, dict[str, str]]:
        """``owner/name``, ``owner/name/revision/R`` or ``owner/name/tree/R``."""
        folder = self.root / "/".join(parts[:2])
        if not folder.is_dir():
            return None, {"X-Error-Code": "RepoNotFound"}
        if len(parts) > 3 and parts[3] not in REVISIONS:
            return None, {"X-Error-Code": "RevisionNotFound"}
        files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        found: Any = {
            "id": "/".join(parts[:2]),
            "sha": COMMIT,
            "siblings": [{"rfilename": file.relative_to(folder).as_posix()} for file in files],
        }
        if parts[2:3] == ["tree"]:
            found = [
                {
                    "type": "file",
                    "oid": _etag(file),
                    "size": file.stat().st_size,
                    "path": file.relative_to(folder).as_posix(),
                }
                for file in files
            ]
        return json.dumps(found).encode(), {"Content-Type": "application/json"}

    def _resolved(self, parts: list[str]) -> tuple[bytes | None, dict[str, str]]:
        """``owner/name/resolve/R/path``."""
        folder = self.root / "/".join(parts[:2])
        if not folder.is_dir():
            return None, {"X-Error-Code": "RepoNotFound"}
        if parts[3] not in REVISIONS:
            return None, {"X-Error-Code": "RevisionNotFound"}
        file = folder / "/".join(parts[4:])
        if not file.is_file():
            return None, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}
        return file.read_bytes(), {"ETag": f'"{_etag(file)}"', "X-Repo-Commit": COMMIT}

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()


@contextmanager
def serving(root: Path) -> Iterator[str]:
    """The address of a hub of these folders."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Hub", (_Hub,), {"root": root}))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
