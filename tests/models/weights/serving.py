"""Files over HTTP on a loopback port, as the hub and S3 serve them: ranges, cut connections, bytes counted."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BLOCK = 16 * 1024


@dataclass
class Files:
    """``cuts``: of each of the next answers with a body larger than BLOCK, how many bytes go out before the connection
    drops. ``pause_s``: between blocks. ``sent``: name -> bytes that went out. ``ranges``: whether they are known."""

    files: dict[str, bytes]
    cuts: list[int] = field(default_factory=list)
    pause_s: float = 0.0
    ranges: bool = True
    sent: dict[str, int] = field(default_factory=dict)
    asked: int = 0
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def fetched(self) -> list[str]:
        return sorted(self.sent)

    @property
    def sent_bytes(self) -> int:
        return sum(self.sent.values())


class Server(ThreadingHTTPServer):
    daemon_threads = True
    content: Any

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed in the middle is what the tests want."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def log_message(self, *args: object) -> None:
        pass

    def answer(self, with_body: bool) -> None:
        raise NotImplementedError

    def send(self, status: int, body: bytes, headers: Mapping[str, str], with_body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def send_file(self, name: str, headers: Mapping[str, str], with_body: bool) -> None:
        content: Files = self.server.content
        body, status, extra = content.files[name], 200, dict[str, str]()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        if asked and content.ranges:
            first, last = int(asked[1]), int(asked[2] or len(body) - 1)
            extra = {"content-range": f"bytes {first}-{min(last, len(body) - 1)}/{len(body)}"}
            body, status = body[first : last + 1], 206
        if not with_body:
            self.send(status, body, {**headers, **extra}, with_body)
            return
        self.send_response(status)
        for key, value in {**headers, **extra, "content-length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        with content.lock:
            cut = content.cuts.pop(0) if content.cuts and len(body) > BLOCK else None
        self._blocks(content, name, body, cut)

    def _blocks(self, content: Files, name: str, body: bytes, cut: int | None) -> None:
        content.sent.setdefault(name, 0)
        for place in range(0, len(body), BLOCK):
            block = body[place : place + BLOCK]
            if cut is not None and place + len(block) > cut:
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(block)
            with content.lock:
                content.sent[name] += len(block)
            if content.pause_s:
                time.sleep(content.pause_s)


@contextmanager
def serving(content: Files, handler: type[Handler]) -> Iterator[None]:
    server = Server(("127.0.0.1", 0), handler)
    server.content = content
    content.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
