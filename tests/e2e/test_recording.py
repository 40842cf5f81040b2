"""Goal M1 on the real service: what it decided is decided again, from a recording made while it served."""

from __future__ import annotations

import gzip
import subprocess
from pathlib import Path

from models.control.recording import Arrivals, Header, Step, read_lines
from models.demo.catalog import SIMULATED_GPU_MIB, SIMULATED_GPUS
from tests.e2e.service import Service, rows, until

GPUS = f"{SIMULATED_GPUS}x{SIMULATED_GPU_MIB}MiB"
MODELS = ["tiny-llama", "tiny-gemma", "tiny-qwen3", "minilm"]


def _record(service: Service, out: Path, seconds: int) -> subprocess.Popen[str]:
    command = [service.roundhouse, "record", "--out", str(out), "--duration", f"{seconds}s"]
    return subprocess.Popen(command, env=service.environ(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _call(service: Service, model: str) -> None:
    if model == "minilm":
        with service.http() as client:
            answer = client.post("/v1/embeddings", json={"model": model, "input": "hello"})
    else:
        answer = service.chat(model)
    assert answer.status_code == 200, answer.text


def test_a_recording_replays_identically_and_can_be_simulated(service: Service, tmp_path: Path) -> None:
    for model in MODELS:
        service.order(model, "stop")
    out = tmp_path / "run.jsonl.gz"
    recording = _record(service, out, 5)
    calls = 0
    while recording.poll() is None:
        _call(service, MODELS[calls % len(MODELS)])
        calls += 1
    said, _ = recording.communicate()
    assert recording.returncode == 0, said
    with gzip.open(out, "rt") as file:
        header, *lines = read_lines(file, out.name)
    assert isinstance(header, Header)
    assert header.simulated
    deeds = {type(action).__name__ for line in lines if isinstance(line, Step) for action in line.plan.actions}
    assert {"Start"} <= deeds
    assert deeds & {"Sleep", "Stop"}, "four models do not fit two GPUs together"
    arrived = sum(line.count for line in lines if isinstance(line, Arrivals))
    assert calls / 3 <= arrived <= calls, "all but those before it began"
    replayed = service.json("replay", str(out))
    assert replayed["identical"]
    assert replayed["decisions"] == sum(isinstance(line, Step) for line in lines)
    simulated = service.json_on_stdout("simulate", "--trace", str(out), "--models-from-trace", "--gpus", GPUS)
    assert simulated["simulated"]
    assert simulated["requests"] == arrived


def test_the_plan_says_what_a_call_would_meet_and_is_right(service: Service) -> None:
    service.order("tiny-llama", "stop")
    (planned,) = service.json("plan", "--explain", "--model", "tiny-llama")["models"]
    assert planned["replicas"] == []
    assert planned["if_called"]["outcome"] in ("start", "evict")
    gpu = planned["if_called"]["gpu"]
    replica = service.only_replica("tiny-llama")
    assert replica["gpu"] == gpu
    (planned,) = service.json("plan", "--explain", "--model", "tiny-llama")["models"]
    assert planned["if_called"]["outcome"] == "serves"
    assert 0 < planned["start_s"] < 10, "as measured here"


def test_a_drained_gpu_is_left_and_not_used_again_until_it_is_undrained(service: Service) -> None:
    replica = service.only_replica("tiny-llama")
    gpu = replica["gpu"]
    service.run("gpus", "drain", gpu, "--wait")
    try:
        (drained,) = (each for each in rows(service.admin("gpus")) if each["id"] == gpu)
        assert drained["cordoned"]
        assert drained["reserved_bytes"] == 0
        assert service.chat("tiny-llama").status_code == 200
        found = until(lambda: [each for each in service.replicas("tiny-llama") if each["state"] == "ready"])
        assert all(each["gpu"] != gpu for each in found)
    finally:
        service.run("gpus", "undrain", gpu)
