"""Real processes are killed; serving goes on or comes back."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import httpx

from tests.e2e.service import Service, rows, until


def test_a_killed_engine_is_replaced_for_the_next_request(service: Service) -> None:
    service.order("tiny-llama", "stop")
    assert service.chat("tiny-llama").status_code == 200
    (before,) = service.replicas("tiny-llama")
    os.kill(before["pid"], signal.SIGKILL)
    assert service.chat("tiny-llama").status_code == 200
    (after,) = [r for r in service.replicas("tiny-llama") if r["state"] == "ready"]
    assert after["pid"] != before["pid"]
    died = until(lambda: [d for d in service.decisions("tiny-llama") if d["action"] == "died"])
    assert any(d["replica_id"] == before["replica_id"] and "signal 9" in d["reason"] for d in died)


def test_a_killed_controller_comes_back_and_adopts_what_runs(service: Service) -> None:
    wanted = ("tiny-llama", "tiny-gemma")  # what tests before this one had may be on its way out
    for model in wanted:
        assert service.chat(model).status_code == 200
    alive = {
        r["replica_id"]: r["pid"]
        for r in rows(service.admin("replicas"))
        if r["model_id"] in wanted and r["state"] in ("ready", "asleep")
    }
    assert len(alive) >= len(wanted)
    controller = service.admin("status")["controller"]["pid"]
    since = time.time()
    stop, failed = threading.Event(), []

    def call() -> None:
        while not stop.is_set():
            answer = service.chat("tiny-gemma")
            if answer.status_code != 200:
                failed.append(answer.text)

    caller = threading.Thread(target=call)
    caller.start()
    try:
        os.kill(controller, signal.SIGKILL)
        back = until(lambda: _controller_pid(service) != controller and service.admin("status"), timeout_s=20)
    finally:
        stop.set()
        caller.join()
    assert failed == []
    assert back["controller"]["pid"] != controller
    now = {r["replica_id"]: r["pid"] for r in rows(service.admin("replicas"))}
    assert alive.items() <= now.items(), "the same replicas, the same processes"
    actions = [d["action"] for d in service.decisions() if d["at_unix_s"] >= since]
    assert "adopt" in actions
    assert not {"start", "stop", "sleep"} & set(actions), "nothing was moved because of the restart"
    assert service.chat("tiny-qwen3").status_code == 200, "and it decides again"


def _controller_pid(service: Service) -> int:
    return int(service.admin("status")["controller"]["pid"])


def test_a_client_that_leaves_frees_its_slot_in_the_engine(service: Service) -> None:
    body = {
        "model": "tiny-qwen3",  # slow enough to need many seconds for this
        "messages": [{"role": "user", "content": "go on"}],
        "max_tokens": 900,
        "ignore_eos": True,
        "stream": True,
    }
    with service.http() as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()  # held on to: httpx hangs up when it is dropped
        next(lines)
        (replica,) = service.replicas("tiny-qwen3")
        until(lambda: _running_in(replica) == 1, timeout_s=2)
    until(lambda: _running_in(replica) == 0, timeout_s=2)


def _running_in(replica: dict[str, Any]) -> float:
    """Requests that the engine itself says it runs."""
    transport = httpx.HTTPTransport(uds=replica["endpoint"].removeprefix("unix:"))
    with httpx.Client(transport=transport, base_url="http://engine") as client:
        lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("vllm:num_requests_running{"))
