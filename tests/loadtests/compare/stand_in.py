"""Stands in for what ``compare --start`` starts. Run as a program:

``server PORT MODEL``: a server like vLLM's; ``proxy PORT ENGINE_PORT``: hands requests on to one, as routers do.
"""

from __future__ import annotations

import signal
import sys
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.loadtests.fake_service import FakeModel, FakeService


def serve(port: int, model: str) -> int:
    with FakeService({model: FakeModel(state="ready", gap_s=0.002)}, port, check_keys=False).running():
        signal.pause()
    return 0


class Handler(BaseHTTPRequestHandler):
    """Reads an answer whole before it is handed on."""

    engine = 0

    def log_message(self, *args: object) -> None:
        """Nobody reads it."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        engine = HTTPConnection("127.0.0.1", self.engine)
        engine.request("POST", self.path, body, {"content-type": "application/json"})
        answer = engine.getresponse()
        whole = answer.read()
        self.send_response(answer.status)
        self.send_header("content-type", answer.headers["content-type"])
        self.send_header("content-length", str(len(whole)))
        self.end_headers()
        self.wfile.write(whole)
        engine.close()


def main() -> int:
    verb, port, other = sys.argv[1:]
    if verb == "server":
        return serve(int(port), other)
    Handler.engine = int(other)
    ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
