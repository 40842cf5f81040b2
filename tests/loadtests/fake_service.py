"""A service on loopback that answers as Roundhouse does, with models that behave as the test says."""

from __future__ import annotations

import json
import os
import sys
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
    delays_s: tuple[float, ...] = ()  # before each word, where they are not all gap_s
    refusal: tuple[int, str] | None = None
    breaks: str = ""
    state: str | None = None  # of its one replica; None when there is none
    obeys: bool = True  # does what the admin says
    copies: int = 1  # replicas that it has when it has one
    starts: list[str] = field(default_factory=list)  # the state that each request found
    in_flight: list[int] = field(default_factory=list)  # what the admin API says of it, one after the other
    capabilities: tuple[str, ...] = ()
    context: int | None = None
    usage: dict[str, int] | None = None  # told at the end of a stream
    max_replicas: int = 1
    timing: str = ""  # the value of its Server-Timing header


class FakeService:
    """``orders``: what the admin was told to do, such as ``stop tiny-llama``. ``asked``: bodies of chat requests.
    ``tokens``: of each stream, when it was asked and when each word was sent (time.monotonic). ``stall``: while it is
    held, no answer begins and none goes on."""

    def __init__(self, models: dict[str, FakeModel], port: int = 0, check_keys: bool = True) -> None:
        self.models = models
        self.check_keys = check_keys
        self.orders: list[str] = []
        self.asked: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.tokens: list[list[float]] = []
        self.keys: set[str] = {API_KEY}
        self.told_keys: list[str] = []  # which key each request carried
        self.pids: dict[str, int] = {}  # of what the admin API tells
        self.resident_bytes: int | None = None  # of its process, where it tells
        self.sources: dict[str, str] = {}  # of models, where not /models/<name>
        self.stall = threading.Lock()
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

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers who leave in the middle of an answer are what some tests are about."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 0
    disable_nagle_algorithm = True

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
                {"id": name, "object": "model"}
                | ({"runtime": model.runtime} if model.runtime else {})
                | ({"capabilities": list(model.capabilities)} if model.capabilities else {})
                | ({"max_model_len": model.context} if model.context else {})
                for name, model in self.service.models.items()
            ]
            self.json(200, {"object": "list", "data": entries})
        elif path == "/admin/v1/replicas":
            rows = [
                {"replica_id": f"{n}-{copy}", "model_id": n, "state": m.state, "pid": self.pid("engine")}
                for n, m in self.service.models.items()
                for copy in range(m.copies)
                if m.state
            ]
            self.json(200, {"object": "list", "data": rows})
        elif path == "/admin/v1/models":
            tiers = {None: "disk", "asleep": "host", "ready": "gpu"}
            shown = [
                {
                    "model_id": n,
                    "tier": tiers.get(m.state, "disk"),
                    "max_replicas": m.max_replicas,
                    "held": 0,
                    "in_flight": 0,
                }
                for n, m in self.service.models.items()
            ]
            self.json(200, {"object": "list", "data": shown})
        elif path == "/admin/v1/status":
            worker = {"pid": self.pid("worker")}
            if self.service.resident_bytes is not None:
                worker["resident_bytes"] = self.service.resident_bytes
            workers = {"gateway": worker, "controller": {"pid": self.pid("controller")}}
            self.json(200, {"version": "0.0", "simulated": True, "gpus": 1, "nodes": 1, **workers})
        elif (name := path.removeprefix("/admin/v1/models/")) in self.service.models:
            asked = self.service.models[name].in_flight
            busy = {"in_flight": asked.pop(0) if asked else 0, "held": 0}
            source = self.service.sources.get(name, f"/models/{name}")
            self.json(200, {"model_id": name, "source": source, **busy})
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
        elif path == "/admin/v1/keys":
            key = f"sk-{body['name'].replace(' ', '-')}"
            self.service.keys.add(key)
            self.service.orders.append(f"key {body['name']}")
            self.json(201, {"key_id": key[3:], "key": key})
        else:
            self.service.paths.append(path)
            self.service.told_keys.append(str(self.headers.get("authorization")).removeprefix("Bearer "))
            self.chat(body)

    def do_DELETE(self) -> None:
        path = urlsplit(self.path).path
        if self.permitted(path):
            self.service.orders.append(f"revoke {path.rpartition('/')[2]}")
            self.service.keys.discard(f"sk-{path.rpartition('/')[2]}")
            self.json(200, {})

    def pid(self, part: str) -> int:
        return self.service.pids.get(part, os.getpid())

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
        elif self.path == "/v1/embeddings":
            data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
            self.json(200, {"object": "list", "data": data, "usage": {"prompt_tokens": 3, "total_tokens": 3}})
        elif model.runtime == "torch" or (model.runtime is None and not model.words):
            self.refuse(400, "this model does not support chat", "unsupported_endpoint")
        elif model.refusal:
            self.refuse(*model.refusal, "model_start_failed")
        else:
            with self.service.stall:
                pass
            self.answer(model, stream=body["stream"])

    def answer(self, model: FakeModel, stream: bool) -> None:
        model.starts.append(model.state or "stopped")
        if model.state != "ready":
            time.sleep(model.start_s)
            model.state = "ready"
        if not stream and self.path == "/v1/messages":
            usage = {"input_tokens": 5, "output_tokens": len(model.words)}
            text = [{"type": "text", "text": "".join(model.words)}]
            self.json(200, {"type": "message", "content": text, "stop_reason": "end_turn", "usage": usage})
            return
        if not stream and self.path == "/v1/completions":
            self.json(200, {"choices": [{"text": "".join(model.words), "finish_reason": "stop"}]})
            return
        if not stream:
            message = {"role": "assistant", "content": "".join(model.words)}
            self.json(200, {"choices": [{"message": message, "finish_reason": "stop"}]})
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        if model.timing:
            self.send_header("server-timing", model.timing)
        self.end_headers()
        if self.path == "/v1/messages":
            self.stream_message(model)
        else:
            self.stream(model)

    def stream_message(self, model: FakeModel) -> None:
        self.event({"type": "message_start", "message": {"usage": {"input_tokens": 5, "output_tokens": 0}}})
        for word in model.words:
            time.sleep(model.gap_s)
            self.event({"type": "content_block_delta", "delta": {"type": "text_delta", "text": word}})
        usage = {"output_tokens": len(model.words)}
        self.event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage})
        self.event({"type": "message_stop"})
        self.chunk(b"")

    def stream(self, model: FakeModel) -> None:
        sent = [time.monotonic()]
        plain = self.path == "/v1/completions"
        if not plain:
            self.event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        for place, word in enumerate(model.words):
            time.sleep(model.delays_s[place] if model.delays_s else model.gap_s)
            with self.service.stall:
                pass
            sent.append(time.monotonic())
            said = {"text": word} if plain else {"delta": {"content": word}}
            self.event({"choices": [{**said, "finish_reason": None}]})
        self.service.tokens.append(sent)
        self.end_stream(model)

    def end_stream(self, model: FakeModel) -> None:
        if model.breaks == "error":
            self.chunk(b'event: error\ndata: {"error": {"message": "the engine died", "code": "engine_died"}}\n\n')
        elif model.breaks == "hang":
            self.service.open.wait()
        elif model.breaks != "cut":
            self.event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        if model.usage:
            self.event({"choices": [], "usage": model.usage})
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
        known = {ADMIN_KEY} if path.startswith("/admin/") else self.service.keys
        if not self.service.check_keys or str(self.headers.get("authorization")).removeprefix("Bearer ") in known:
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
