"""More models than memory: all are served, one after another, and the ledger never goes over."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from tests.e2e.service import Service, rows

CHAT = ["tiny-llama", "tiny-gemma", "tiny-qwen3"]


class LedgerWatch(threading.Thread):
    """Reads GPUs and ledger every 50 ms, and keeps every reading that is over capacity or does not add up."""

    def __init__(self, service: Service) -> None:
        super().__init__(daemon=True)
        self._service = service
        self._done = threading.Event()
        self.readings = 0
        self.wrong: list[object] = []

    def run(self) -> None:
        with self._service.http(admin=True) as client:
            while not self._done.wait(0.05):
                for gpu in rows(client.get("/admin/v1/gpus").raise_for_status().json()):
                    self.readings += 1
                    fits = 0 <= gpu["reserved_bytes"] <= gpu["memory_bytes"]
                    if not fits or gpu["reserved_bytes"] + gpu["free_bytes"] != gpu["memory_bytes"]:
                        self.wrong.append(gpu)

    def __enter__(self) -> LedgerWatch:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        self.join()


def test_every_model_is_served_in_turn_by_evicting_idle_ones(service: Service) -> None:
    since = time.time()
    with LedgerWatch(service) as watch, service.http() as client:
        for _ in range(6):
            for model in CHAT:
                answer = service.chat(model)
                assert answer.status_code == 200, answer.text
                assert answer.json()["model"] == model
            embedded = client.post("/v1/embeddings", json={"model": "minilm", "input": "hello"})
            assert embedded.status_code == 200, embedded.text
    assert watch.readings > 20
    assert watch.wrong == []
    evictions = [d for d in service.decisions() if d["evicted_for"] and d["at_unix_s"] >= since]
    assert evictions, "four models do not fit two GPUs together, so somebody had to go"
    for eviction in evictions:
        assert eviction["action"] in ("sleep", "stop")
        assert eviction["model_id"] != eviction["evicted_for"]
        assert eviction["evicted_for"] in eviction["reason"]


def test_the_ledger_names_every_replica_that_holds_memory(service: Service) -> None:
    assert service.chat("tiny-llama").status_code == 200
    ready = {r["replica_id"] for r in rows(service.admin("replicas")) if r["state"] == "ready"}
    ledger = service.admin("ledger")
    reserved = {entry["replica_id"] for gpu in ledger["gpus"] for entry in gpu["entries"]}
    assert ready <= reserved


def test_thirty_first_requests_cause_one_start_and_thirty_answers(service: Service) -> None:
    service.order("tiny-llama", "stop")
    assert service.replicas("tiny-llama") == []
    since = time.time()
    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda i: service.chat("tiny-llama", f"request {i}"), range(30)))
    assert [answer.status_code for answer in answers] == [200] * 30
    starts = [d for d in service.decisions("tiny-llama") if d["action"] == "start" and d["at_unix_s"] >= since]
    assert len(starts) == 1


def test_many_models_at_once_with_too_little_memory_are_all_served(service: Service) -> None:
    with LedgerWatch(service) as watch, ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda i: service.chat(CHAT[i % 3], f"n {i}", max_tokens=8), range(36)))
    assert [answer.status_code for answer in answers] == [200] * 36
    assert watch.wrong == []


def test_sleep_and_wake_by_hand_keep_the_answers(service: Service) -> None:
    before = service.chat("tiny-llama", "the same", max_tokens=12, temperature=0).json()["choices"][0]["message"]
    replica = service.only_replica("tiny-llama")
    service.order("tiny-llama", "sleep")
    (asleep,) = service.replicas("tiny-llama")
    assert (asleep["state"], asleep["pid"]) == ("asleep", replica["pid"])
    after = service.chat("tiny-llama", "the same", max_tokens=12, temperature=0).json()["choices"][0]["message"]
    (awake,) = service.replicas("tiny-llama")
    assert (awake["state"], awake["pid"]) == ("ready", replica["pid"]), "woken, not started again"
    assert after == before
