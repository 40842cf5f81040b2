"""The scene's service with nothing behind it: an admin API whose answers the test changes, and calls that succeed."""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from loadtests.chaos.census import Process
from loadtests.chaos.scene import STEADY, models
from loadtests.target import Target
from tests.loadtests.chaos.results import ledger


@dataclass
class Town:
    """``replicas``: id -> state. ``answers``: path -> document, in place of what the replicas say; None: no answer.

    A call starts its model: replica ``<model>-<number>`` gets ready. ``orders``: what the admin was told.
    """

    replicas: dict[str, str] = field(default_factory=lambda: {f"{STEADY}-1": "ready", f"{STEADY}-2": "ready"})
    answers: dict[str, Any] = field(default_factory=dict)
    orders: list[str] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    evicts: str = ""  # a replica that begins to drain when somebody asks for a model that does not run
    made: int = 0
    server: ThreadingHTTPServer = field(init=False)

    @property
    def target(self) -> Target:
        return Target(f"http://127.0.0.1:{self.server.server_address[1]}", "key", "admin")

    @contextmanager
    def open(self) -> Iterator[Town]:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"town": self}))
        self.server.daemon_threads = True
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()
            thread.join()

    def pid(self, replica: str) -> int:
        """Of no process: higher than the kernel gives."""
        return 5_000_000 + zlib.crc32(replica.encode()) % 1_000_000

    def get(self, path: str) -> Any:
        if path in self.answers:
            return self.answers[path]
        if path == "/admin/v1/replicas":
            return {"data": [self._record(replica, state) for replica, state in self.replicas.items()]}
        if path == "/admin/v1/ledger":
            return ledger(*((replica, 0, 1) for replica in self.replicas))
        if path == "/admin/v1/decisions":
            return {"data": self.decisions}
        if path == "/admin/v1/status":
            now = time.time()
            return {"controller": {"pid": 1, "updated_unix_s": now, "age_s": 0.0, "alive": True}}
        return {"in_flight": 0, "held": 0}  # of a model

    def order(self, model: str, verb: str) -> None:
        self.orders.append(f"{verb} {model}")
        if verb == "stop":
            self.replicas = {r: state for r, state in self.replicas.items() if not r.startswith(f"{model}-")}
        else:
            self.serve(model)

    def serve(self, model: str) -> None:
        if not any(replica.startswith(f"{model}-") for replica in self.replicas):
            if self.evicts in self.replicas:
                self.replicas[self.evicts] = "draining"
            self.made += 1
            self.replicas[f"{model}-{self.made}"] = "ready"

    def _record(self, replica: str, state: str) -> dict[str, Any]:
        return {
            "replica_id": replica,
            "model_id": replica.rpartition("-")[0],
            "state": state,
            "pid": self.pid(replica),
        }


class FakeCensus:
    """An engine for each replica of the town, and ``others``."""

    def __init__(self, town: Town, *others: Process) -> None:
        self.town = town
        self.others = list(others)
        self.hidden: set[str] = set()  # replicas without a process

    def engines(self) -> tuple[Process, ...]:
        there = [replica for replica in self.town.replicas if replica not in self.hidden]
        made = (Process(self.town.pid(replica), 0, 1, "engine", replica) for replica in there)
        return (*made, *(process for process in self.others if process.kind == "engine"))

    def look(self) -> tuple[Process, ...]:
        return (*self.engines(), *(process for process in self.others if process.kind != "engine"))


class _Handler(BaseHTTPRequestHandler):
    town: Town

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        self._say(self.town.get(self.path.partition("?")[0]))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        if self.path.startswith("/admin/"):
            model, verb = self.path.partition("?")[0].split("/")[-2:]
            self.town.order(model, verb)
            self._say({"ok": True})
            return
        assert body["model"] in models()
        self.town.serve(body["model"])
        if body["stream"]:
            self._stream()
        else:
            self._say({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]})

    def _stream(self) -> None:
        last = {"choices": [{"delta": {"content": "hi"}, "finish_reason": "stop"}]}
        self._bytes(f"data: {json.dumps(last)}\n\ndata: [DONE]\n\n".encode(), "text/event-stream")

    def _say(self, document: Any) -> None:
        if document is None:
            self.close_connection = True
        else:
            self._bytes(json.dumps(document).encode(), "application/json")

    def _bytes(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
