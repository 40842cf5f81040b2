"""A small model hub on a loopback port: what the real client asks for, answered from memory, and remembered."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """One repository at one commit; ``fetched`` lists the files that were downloaded."""

    files: dict[str, bytes]
    repo: str = "org/tiny"
    gated: bool = False
    fetched: list[str] = field(default_factory=list)
    asked: int = 0
    url: str = ""


class HubServer(ThreadingHTTPServer):
    hub: Hub


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    server = HubServer(("127.0.0.1", 0), Handler)
    server.hub = hub
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self, with_body: bool) -> None:
        hub = self.server.hub
        hub.asked += 1
        path, _, _ = self.path.partition("?")
        revision = re.search(r"/(?:revision|resolve|tree)/([^/]+)", path)
        if not path.startswith((f"/api/models/{hub.repo}", f"/{hub.repo}/resolve/")):
            self._send(404, b"{}", {"x-error-code": "RepoNotFound"}, with_body)
        elif hub.gated:
            self._send(403, b"{}", {"x-error-code": "GatedRepo"}, with_body)
        elif revision is not None and revision[1] not in ("main", COMMIT):
            self._send(404, b"{}", {"x-error-code": "RevisionNotFound"}, with_body)
        elif path.startswith("/api/"):
            self._send(200, _listing(hub, path), {"content-type": "application/json"}, with_body)
        else:
            self._file(path.rpartition("/")[2], with_body)

    def _file(self, name: str, with_body: bool) -> None:
        content = self.server.hub.files.get(name)
        if content is None:
            self._send(404, b"", {"x-error-code": "EntryNotFound", "x-repo-commit": COMMIT}, with_body)
            return
        if with_body:
            self.server.hub.fetched.append(name)
        self._send(200, content, {"etag": f'"{_sha1(content)}"', "x-repo-commit": COMMIT}, with_body)

    def _send(self, status: int, body: bytes, headers: dict[str, str], with_body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)


def _listing(hub: Hub, path: str) -> bytes:
    if "/tree/" in path:
        entries = [
            {"type": "file", "path": name, "size": len(content), "oid": _sha1(content)}
            for name, content in hub.files.items()
        ]
        return json.dumps(entries).encode()
    siblings = [{"rfilename": name} for name in hub.files]
    return json.dumps({"id": hub.repo, "sha": COMMIT, "siblings": siblings, "private": False}).encode()


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
