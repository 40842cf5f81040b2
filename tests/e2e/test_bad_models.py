"""Bad models, classes and cards: each ends in a state with a reason, frees what it took and leaves the others alone."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from models.home import Home
from tests.e2e.bad_models import flip_in_the_payload
from tests.e2e.service import Service, processes_of, rows, until

GOOD = "tiny-llama"
STOPPED = "class-is-stopped"


def call(service: Service, model: str, *inputs: Any) -> httpx.Response:
    """As a caller of a model of its kind does."""
    if not model.startswith("class-"):
        return service.chat(model)
    with service.http() as client:
        return client.post(f"/v1/predict/{model}", json={"inputs": list(inputs) or ["hello"]})


def answered(response: httpx.Response) -> None:
    assert response.status_code == 200, response.text


def engines_of(service: Service, model: str) -> list[int]:
    """Processes that write to a log of one of its replicas."""
    found = []
    for pid in processes_of(service.home):
        try:
            log = os.readlink(f"/proc/{pid}/fd/2")
        except OSError:
            continue
        if re.fullmatch(rf"{re.escape(model)}-[0-9a-f]{{6}}\.log", Path(log).name):
            found.append(pid)
    return found


def nothing_is_left_of(service: Service, model: str) -> bool:
    """No replica, no reserved byte, no process, no socket."""
    home = Home(service.home.resolve())
    sockets = [path for path in home.engines.iterdir() if re.fullmatch(rf"{model}-\w{{6}}\.(http|ctl)", path.name)]
    ledger = service.admin("ledger")
    entries = [entry for of in (*ledger["gpus"], *ledger["nodes"]) for entry in of["entries"]]
    reserved = [entry for entry in entries if entry["model_id"] == model]
    return not (service.replicas(model) or reserved or sockets or engines_of(service, model))


def died(service: Service, model: str) -> list[str]:
    return [d["reason"] for d in service.decisions(model) if d["action"] == "died"]


@pytest.fixture(scope="module", autouse=True)
def stopped_pid(service: Service) -> int:
    """An engine that hangs from the first test of this file on, so that the last one need not wait for it."""
    answered(call(service, STOPPED, "fine"))
    (replica,) = service.replicas(STOPPED)
    os.kill(replica["pid"], signal.SIGSTOP)
    return int(replica["pid"])


@pytest.fixture(autouse=True)
def _others_go_on(service: Service) -> Iterator[None]:
    """Whatever a test does to a bad model, a good one serves before and after, from the same process."""
    assert service.chat(GOOD).status_code == 200
    before = [replica["pid"] for replica in service.replicas(GOOD)]
    yield
    assert service.chat(GOOD).status_code == 200
    after = [replica["pid"] for replica in service.replicas(GOOD)]
    assert set(before) & set(after), "it was not started again"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("truncated", "model.safetensors is truncated"),
        ("flipped-header", "model.safetensors is corrupt: its header is not valid JSON"),
        ("lacks-tensors", "the weights are incomplete: .*down_proj.* is missing"),
        ("pickled", "model.safetensors is corrupt"),
        ("only-a-pickle", "only pickled weights .* which are refused because they can run code"),
        ("no-tokenizer", "has no tokenizer"),
        ("garbled-tokenizer", "the model's tokenizer is damaged: it is not JSON"),
        ("anothers-tokenizer", r"the tokenizer is another model's: its tokens go up to \d+, the model knows \d+"),
        (
            "too-little-cache",
            "a KV cache of 1 MiB holds 512 tokens, max_model_len 1024 needs .*: raise declared.kv_cache",
        ),
        ("class-raises", "InitRaises could not be made: not today"),
        ("class-dies", r"killed by signal 11 \(Segmentation fault\) while it loaded"),
        ("class-never-loads", "LoadHangs.load has not returned for 1 s"),
    ],
)
def test_what_cannot_start_says_why_and_leaves_nothing(service: Service, model: str, said: str) -> None:
    answer = call(service, model)
    assert answer.status_code == 503, answer.text
    error = answer.json()["error"]
    assert error["code"] == "model_start_failed"
    assert re.search(said, error["message"]), error["message"]
    for leak in ("Traceback", "site-packages", "/tmp/", "\n"):
        assert leak not in error["message"]
    shown = {entry["model_id"]: entry for entry in rows(service.admin("models"))}
    assert re.search(said, shown[model]["failure"]["message"])
    assert any(re.search(said, d["reason"]) for d in service.decisions(model) if d["action"] == "failed")
    told = service.run("logs", model, check=False)
    said_of_itself = said.replace(" while it loaded", "")  # only its owner knows what it was doing
    assert re.search(said_of_itself, told.stdout + told.stderr), (
        "its log, or the word that there is none, says so as well"
    )
    until(lambda: nothing_is_left_of(service, model))


def test_a_card_that_says_less_than_the_model_holds_is_found_out(service: Service) -> None:
    answered(call(service, "says-it-is-small"))
    (noted, *_) = until(lambda: [d for d in service.decisions("says-it-is-small") if d["action"] == "excess"])
    assert re.search(
        r"holds [\d.]+ MiB of vm/gpu-\d|reservation of .* has grown", noted["reason"].replace(node(service), "vm")
    )
    (replica,) = service.replicas("says-it-is-small")
    ledger = service.admin("ledger")
    entries = {entry["replica_id"]: entry for gpu in ledger["gpus"] for entry in gpu["entries"]}
    assert entries[replica["replica_id"]]["gpu_bytes"] > 162 << 20, "more than its card says"
    service.order("says-it-is-small", "stop")
    until(lambda: nothing_is_left_of(service, "says-it-is-small"))


def test_weights_that_rot_in_the_store_are_not_served_from(service: Service) -> None:
    """The engine's own copy of the weights is damaged while the model is away: it is started from its source."""
    model = "rots-on-disk"
    first = service.chat(model, "the same", max_tokens=12, temperature=0)
    answered(first)
    (replica,) = service.replicas(model)
    folder = layout_folder(replica)
    (manifest,) = until(lambda: list(folder.glob("*.json")))  # written last
    kept = manifest.with_suffix(".safetensors")
    service.order(model, "stop")
    flip_in_the_payload(kept)
    again = service.chat(model, "the same", max_tokens=12, temperature=0)
    answered(again)
    assert again.json()["choices"][0]["message"] == first.json()["choices"][0]["message"]
    (quarantine,) = [d for d in service.decisions(model) if d["action"] == "quarantine"]
    assert "failed its canary" in quarantine["reason"]
    service.order(model, "stop")
    until(lambda: nothing_is_left_of(service, model))


def layout_folder(replica: dict[str, Any]) -> Path:
    """Where an engine keeps the weights in its own layout, by its own word."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(replica["control"])
        with connection.makefile("rb") as lines:
            return Path(json.loads(lines.readline())["order"]["layout_dir"])


def node(service: Service) -> str:
    return str(rows(service.admin("nodes"))[0]["id"])


def test_a_predict_that_raises_fails_its_own_request_only(service: Service) -> None:
    model = "class-sometimes-raises"
    answered(call(service, model, "fine"))
    (replica,) = service.replicas(model)
    for _ in range(3):
        answer = call(service, model, "raise")
        assert answer.status_code == 500
        assert "secret" not in answer.text
    answered(call(service, model, "fine"))
    assert [r["pid"] for r in service.replicas(model)] == [replica["pid"]]


@pytest.mark.parametrize(
    ("model", "does", "reason"),
    [
        ("class-hangs", "hang", "Told.predict has not returned for 1 s"),
        ("class-exits", "_exit", "ended with code 7 while it served: I am leaving"),
        ("class-aborts", "abort", r"killed by signal 6 \(Aborted\) while it served, a library gave up"),
    ],
)
def test_a_predict_that_ends_its_engine_is_explained(service: Service, model: str, does: str, reason: str) -> None:
    """A request that kills is tried on at most two more engines; then the model is held back, with the reason."""
    answered(call(service, model, "fine"))
    (before,) = service.replicas(model)
    answer = call(service, model, does)
    assert answer.status_code >= 500
    assert until(lambda: any(re.search(reason, said) for said in died(service, model)))
    assert len(died(service, model)) <= 3
    until(lambda: nothing_is_left_of(service, model))
    assert not Path(f"/proc/{before['pid']}").exists()
    shown = {entry["model_id"]: entry for entry in rows(service.admin("models"))}
    assert re.search(reason, shown[model]["failure"]["message"])


def test_a_predict_that_leaks_is_ended_before_the_machine_is_full(service: Service) -> None:
    """By itself, or sooner by the controller, which knows that the GPU has no room for what it has become."""
    answered(call(service, "class-leaks", "leak"))
    told = re.compile(r"it leaks, or its budget is too small|holds .* MiB more than was reserved")
    until(lambda: any(told.search(decision["reason"]) for decision in service.decisions("class-leaks")))
    until(lambda: nothing_is_left_of(service, "class-leaks"))


def test_a_stopped_process_was_noticed_ended_and_replaced(service: Service, stopped_pid: int) -> None:
    until(lambda: any("did not answer for 15 s" in said for said in died(service, STOPPED)))
    assert not Path(f"/proc/{stopped_pid}").exists()
    answered(call(service, STOPPED, "fine"))
    service.order(STOPPED, "stop")
    until(lambda: nothing_is_left_of(service, STOPPED))
