"""An admin API with a small world behind it. The gateway's own views make its answers, so their shapes are real."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from gateway import (
    admin_documents,
    admin_views,
    decision_views,
    defrag_documents,
    nodes_api,
    packing_api,
    plan_documents,
    warm_api,
    why_documents,
)
from gateway.decision_stream import Wanted
from models.runtimes.host.log_reader import LogLine
from models.store.records import (
    CommandReply,
    DecisionRecord,
    Failure,
    FleetRecord,
    GpuRecord,
    ModelDemand,
    ModelRecord,
    NodeRecord,
    ReplicaRecord,
    Reservation,
)

MIB = 2**20
KEY = "rh-the-admin-key"
NOW_UNIX_S = 1_700_000_000.0

FLEET = FleetRecord(
    seq=7,
    updated_unix_s=NOW_UNIX_S,
    controller_pid=42,
    nodes=(NodeRecord(id="vm", address="127.0.0.1", host_bytes=1024 * MIB, host_reserved_bytes=0),),
    gpus=tuple(
        GpuRecord(
            id=f"vm/gpu-{index}",
            node="vm",
            index=index,
            name="simulated",
            simulated=True,
            memory_bytes=512 * MIB,
            reserved_bytes=reserved * MIB,
            free_bytes=(512 - reserved) * MIB,
        )
        for index, reserved in enumerate((176, 0))
    ),
    replicas=(
        ReplicaRecord(
            replica_id="tiny-llama-1",
            model_id="tiny-llama",
            node="vm",
            gpu="vm/gpu-0",
            state="ready",
            reason="ready after 0.15 s",
            state_since_unix_s=NOW_UNIX_S,
            endpoint="unix:/x.http",
            control="/x.ctl",
            pid=4711,
            footprint={"weights": 16 * MIB, "kv_cache": 96 * MIB, "overhead": 64 * MIB},
            start_s=0.15,
            measured={"weights": 16 * MIB, "kv_cache": 96 * MIB, "overhead": 88 * MIB, "shared": 0, "rss": 9 * MIB},
            detail={"path": "fast", "weights": "mapped"},
        ),
    ),
    ledger=(
        Reservation(
            replica_id="tiny-llama-1",
            model_id="tiny-llama",
            gpu="vm/gpu-0",
            node="vm",
            gpu_bytes=176 * MIB,
            host_bytes=0,
        ),
    ),
)
CATALOG = (
    ModelRecord(
        model_id="tiny-llama",
        runtime="vllm",
        source="/models/tiny-llama",
        aliases=("llama",),
        min_replicas=0,
        max_replicas=2,
        ttl_s=600,
        priority=0,
        pinned=False,
        footprint={"weights": 16 * MIB, "kv_cache": 96 * MIB, "overhead": 64 * MIB},
        card_hash="a",
        footprint_from={"weights": "declared", "kv_cache": "declared", "overhead": "measured"},
        measured={"weights": 16 * MIB, "kv_cache": 96 * MIB, "overhead": 88 * MIB},
        excess_bytes=24 * MIB,
        costs_s={"start_page_cache": 0.21, "start_disk": 1.5, "wake": 0.02},
        weights_tier="page_cache",
        quarantined=2,
    ),
    ModelRecord(
        model_id="org/broken",
        runtime="vllm",
        source="/models/broken",
        aliases=(),
        min_replicas=0,
        max_replicas=1,
        ttl_s=600,
        priority=0,
        pinned=False,
        footprint={"weights": 1, "kv_cache": 2, "overhead": 3},
        card_hash="b",
        failure=Failure(
            message="model.safetensors is cut off",
            code="model_start_failed",
            at_unix_s=1,
            retry_at_unix_s=2,
            permanent=True,
            fault="weights",
            attempts=3,
        ),
        weights_tier="disk",
    ),
)


def decision(number: int, action: str = "start", **changes: Any) -> DecisionRecord:
    given = {"model_id": "tiny-llama", "gpu": "vm/gpu-0", "reason": f"reason {number}", **changes}
    at_unix_s = NOW_UNIX_S + number
    return DecisionRecord(id=f"{number}-0", at_unix_s=at_unix_s, snapshot_id=f"s{number}", action=action, **given)


@dataclass
class FakeAdmin:
    """``asked``: method and path of each request, in order. ``refuse``: path -> status and code of an error."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    refuse: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    decisions: list[DecisionRecord] = field(default_factory=list)
    fleet: FleetRecord = FLEET
    workers_wanted: int = 1
    plan: plan_documents.PlanDocument | None = None
    logs: dict[str, list[LogLine]] = field(default_factory=dict)  # "model=NAME" or "part=NAME" -> what it wrote
    asked_for: list[dict[str, str]] = field(default_factory=list)  # the query of each request
    why: why_documents.Why | None = None
    replies: dict[str, CommandReply] = field(default_factory=dict)  # path -> what is answered to an order
    pages: list[list[tuple[int, str]]] = field(default_factory=list)  # of a recording: numbers and lines
    documents: dict[str, object] = field(default_factory=dict)  # path -> what is there, such as usage
    texts: dict[str, dict[str, bytes]] = field(default_factory=dict)  # path -> by format, where it is no JSON

    def answer(self, method: str, target: str, key: str | None) -> tuple[int, object]:
        parts = urlsplit(target)
        path, query = unquote(parts.path), {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.asked.append(f"{method} {path}")
        self.asked_for.append(query)
        if key != f"Bearer {KEY}":
            return 401, _error("no such key", "invalid_api_key")
        if path in self.refuse:
            status, message, code = self.refuse[path]
            return status, _error(message, code)
        name = path.removeprefix("/admin/v1/")
        if name == "logs":
            return self._logs(query)
        if method == "GET" and name == "warm":
            return 200, warm_api.WarmList(data=self.fleet.warm)
        if method == "POST" and name == "recording":
            return 200, packing_api.RecordedLines(data=(), next_after="0-0")
        if method == "POST" and name in self.replies:
            return 200, self.replies[name]
        if method == "POST":
            return 200, CommandReply(
                id="1", ok=True, message=f"done: {name} {sorted(query.items())}", actions=["an action"]
            )
        if "format" in query:
            return 200, self.texts[name][query["format"]]
        return 200, self.documents[name] if name in self.documents else self._document(name, query)

    def _logs(self, query: dict[str, str]) -> tuple[int, object]:
        kind = "model" if "model" in query else "part"
        lines = self.logs.get(f"{kind}={query[kind]}")
        if lines is None:
            return 404, _error("there is none", "model_not_found" if kind == "model" else "no_log")
        return 200, b"\n".join([*map(msgspec.json.encode, lines), b"", b""])  # a blank line means nothing

    def _decisions(self, query: dict[str, str]) -> object:
        wanted = Wanted(query.get("model"), query.get("replica"), query.get("gpu"))
        chosen = [each for each in reversed(self.decisions) if each in wanted]
        limit = int(query["limit"])
        if "after" in query:
            new = [each for each in reversed(chosen) if _order(each.id) > _order(query["after"])][:limit]
            return decision_views.oldest_first(new, new[-1].id if new else query["after"])
        return decision_views.newest_first(chosen[:limit], limit)

    def _document(self, name: str, query: dict[str, str]) -> object:
        demand = {"tiny-llama": ModelDemand(in_flight=3, held=1, last_request_unix_s=NOW_UNIX_S)}
        match name:
            case "gpus":
                return admin_views.gpu_list(self.fleet)
            case "nodes":
                return nodes_api.node_list(self.fleet)
            case "models":
                return admin_views.model_list(CATALOG, self.fleet, demand)
            case "models/tiny-llama" | "models/org/broken":
                record = next(each for each in CATALOG if name.endswith(each.model_id))
                return admin_views.model_detail(record, self.fleet, demand)
            case "replicas":
                return admin_views.replica_list(self.fleet)
            case "status":
                worker = admin_documents.GatewayStatus(
                    worker="w1", pid=1, uptime_s=9.0, routes_version=7, resident_bytes=50 << 20
                )
                workers = admin_views.Workers(self.workers_wanted, worker)
                return admin_views.status("1.0", workers, self.fleet, len(CATALOG), demand, NOW_UNIX_S)
            case "decisions":
                return self._decisions(query)
            case "why" if self.why is not None:
                return self.why
            case "defrag":
                return defrag_documents.DefragStatus(run=self.fleet.defrag)
            case "plan" if self.plan is not None:
                return msgspec.structs.replace(self.plan, what_if=str(sorted(query.items())) if query else None)
            case "recording":
                page = self.pages.pop(0) if self.pages else []
                data = tuple(packing_api.RecordedLine(id=f"{n}-0", number=n, line=line) for n, line in page)
                return packing_api.RecordedLines(data=data, next_after=data[-1].id if data else query["after"])
        raise AssertionError(f"nobody should ask for {name}")


def _order(stream_id: str) -> tuple[int, ...]:
    return tuple(map(int, stream_id.split("-")))


def _error(message: str, code: str) -> dict[str, object]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


@contextmanager
def serving(admin: FakeAdmin) -> Iterator[FakeAdmin]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, document = admin.answer(self.command, self.path, self.headers.get("authorization"))
            body = document if isinstance(document, bytes) else msgspec.json.encode(document)
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the name that the server looks for

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    admin.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield admin
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
