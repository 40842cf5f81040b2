"""A service on loopback that answers as Roundhouse does, with models that behave as the test says."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from loadtests.target import Target

API_KEY, ADMIN_KEY = "sk-test-caller", "sk-test-admin"


@dataclass
class FakeModel:
    """``breaks``: how its stream ends after the words: an ``error`` event, no ``done``, ``cut`` or ``hang``."""

    words: tuple[str, ...] = ("Steam", " and", " iron", ".")
    runtime: str | None = "vllm"
    start_s: float = 0.0
    gap_s: float = 0.0
    refusal: tuple[int, str] | None = None
    breaks: str = ""
    state: str | None = None  # of its one replica; None when there is none
    obeys: bool = True  # does what the admin says
    copies: int = 1  # replicas that it has when it has one
    starts: list[str] = field(default_factory=list)  # the state that each request found
    in_flight: list[int] = field(default_factory=list)  # what the admin API says of it, one after the other


class FakeService:
    """``orders``: what the admin was told to do, such as ``stop tiny-llama``. ``asked``: bodies of chat requests."""

    def __init__(self, models: dict[str, FakeModel], port: int = 0, check_keys: bool = True) -> None:
        self.models = models
        self.check_keys = check_keys
        self.orders: list[str] = []
        self.asked: list[dict[str, Any]] = []
        self.open = threading.Event()  # ends hanging answers
        self.server = Server(("127.0.0.1", port), Handler)
        self.server.service = self

    @property
    def target(self) -> Target:
        return Target(f"http://127.0.0.1:{self.server.server_address[1]}", API_KEY, ADMIN_KEY)

    @contextmanager
    def running(self) -> Iterator[FakeService]:
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.open.set()
            self.server.shutdown()
            self.server.server_close()
            thread.join()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # many callers at once
    service: FakeService


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 0

    @property
    def service(self) -> FakeService:
        assert isinstance(self.server, Server)
        return self.server.service

    def log_message(self, *args: Any) -> None:
        """The test reads what it wants to know from the self.service."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if not self.permitted(path):
            return
        if path == "/v1/models":
            entries = [
                {"id": name, "object": "model"} | ({"runtime": model.runtime} if model.runtime else {})
                for name, model in self.service.models.items()
            ]
            self.json(200, {"object": "list", "data": entries})
        elif path == "/admin/v1/replicas":
            rows = [
                {"replica_id": f"{n}-{copy}", "model_id": n, "state": m.state, "pid": os.getpid()}
                for n, m in self.service.models.items()
                for copy in range(m.copies)
                if m.state
            ]
            self.json(200, {"object": "list", "data": rows})
        elif (name := path.removeprefix("/admin/v1/models/")) in self.service.models:
            asked = self.service.models[name].in_flight
            busy = {"in_flight": asked.pop(0) if asked else 0, "held": 0}
            self.json(200, {"model_id": name, "source": f"/models/{name}", **busy})
        else:
            self.refuse(404, "no such page", "not_found")

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        path = urlsplit(self.path).path
        if not self.permitted(path):
            return
        if path.startswith("/admin/v1/models/"):
            self.order(*path.removeprefix("/admin/v1/models/").split("/"))
        else:
            self.chat(body)

    def order(self, name: str, verb: str) -> None:
        self.service.orders.append(f"{verb} {name}")
        model = self.service.models[name]
        if verb == "sleep" and model.state != "ready":
            self.refuse(409, f"{name} has no replica that could sleep", "busy")
            return
        if model.obeys:
            model.state = {"stop": None, "sleep": "asleep", "wake": "ready"}[verb]
        self.json(200, {"ok": True, "message": "done", "actions": []})

    def chat(self, body: dict[str, Any]) -> None:
        self.service.asked.append(body)
        model = self.service.models.get(body["model"])
        if model is None:
            self.refuse(404, f"The model '{body['model']}' does not exist", "model_not_found")
        elif model.runtime == "torch" or (model.runtime is None and not model.words):
            self.refuse(400, "this model does not support chat", "unsupported_endpoint")
        elif model.refusal:
            self.refuse(*model.refusal, "model_start_failed")
        else:
            self.answer(model, stream=body["stream"])

    def answer(self, model: FakeModel, stream: bool) -> None:
        model.starts.append(model.state or "stopped")
        if model.state != "ready":
            time.sleep(model.start_s)
            model.state = "ready"
        if not stream:
            message = {"role": "assistant", "content": "".join(model.words)}
            self.json(200, {"choices": [{"message": message, "finish_reason": "stop"}]})
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.stream(model)

    def stream(self, model: FakeModel) -> None:
        self.event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        for word in model.words:
            time.sleep(model.gap_s)
            self.event({"choices": [{"delta": {"content": word}, "finish_reason": None}]})
        if model.breaks == "error":
            self.chunk(b'event: error\ndata: {"error": {"message": "the engine died", "code": "engine_died"}}\n\n')
        elif model.breaks == "hang":
            self.service.open.wait()
        elif model.breaks != "cut":
            self.event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        if not model.breaks:
            self.chunk(b"data: [DONE]\n\n")
        if model.breaks == "cut":
            self.close_connection = True
        else:
            self.chunk(b"")

    def event(self, document: Any) -> None:
        self.chunk(b"data: " + json.dumps(document).encode() + b"\n\n")

    def chunk(self, piece: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    def permitted(self, path: str) -> bool:
        wanted = ADMIN_KEY if path.startswith("/admin/") else API_KEY
        if not self.service.check_keys or self.headers.get("authorization") == f"Bearer {wanted}":
            return True
        self.refuse(401, "this key is not known", "invalid_api_key")
        return False

    def refuse(self, status: int, message: str, code: str) -> None:
        self.json(status, {"error": {"message": message, "type": "x", "param": None, "code": code}})

    def json(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
