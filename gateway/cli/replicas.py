"""``roundhouse replicas``: what the controller knows of each, as it stands."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from gateway.cli.client import find_service
from gateway.cli.model_text import on_gpu, span_text
from gateway.cli.options import HomeFolder, Json
from gateway.cli.output import age_text, bytes_text, say, show_json, show_table


def replicas(home: HomeFolder = None, json: Json = False) -> None:
    """Every replica: its state and why, its GPU, how it runs and what it holds."""
    found = find_service(home).get("replicas")
    if json:
        show_json(found)
        return
    show_replicas(found["data"])
    if found["simulated"]:
        say("The GPUs are simulated: their memory is counted, the models run on the CPU.")


def show_replicas(records: Iterable[Mapping[str, Any]]) -> None:
    now_unix_s = time.time()
    columns = ("REPLICA", "MODEL", "STATE", "FOR", "GPU", "PID", "IN FLIGHT", "STARTED IN", "RUNS", "HOLDS", "REASON")
    rows = (_row(replica, now_unix_s) for replica in records)
    show_table(columns, rows, "No replica runs; a request to a model starts one.")


def _row(replica: Mapping[str, Any], now_unix_s: float) -> tuple[object, ...]:
    detail = replica["detail"]
    runs = [detail[what] for what in ("path", "weights") if what in detail] + ["cold"] * replica["cold"]
    return (
        replica["replica_id"],
        replica["model_id"],
        replica["state"],
        age_text(now_unix_s - replica["state_since_unix_s"]),
        replica["gpu"],
        replica["pid"],
        replica["in_flight"],
        span_text(replica["start_s"]),
        ", ".join(runs),
        bytes_text(on_gpu(replica["measured"])) if replica["measured"] else None,
        replica["reason"],
    )
