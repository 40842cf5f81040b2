"""The decision record of a real service: estimates beside what things took, followed over deaths, kept in a file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.service import Service, until

pytestmark = pytest.mark.e2e


def _last(service: Service, model: str, action: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in service.decisions(model) if each["action"] == action)
    return found


def test_a_start_is_estimated_from_the_one_before_and_shown_beside_what_it_took(service: Service) -> None:
    for _ in range(3):
        service.order("tiny-llama", "stop")
        assert service.chat("tiny-llama").status_code == 200
    start = _last(service, "tiny-llama", "start")
    assert start["details"]["estimated_from"] == "measured"
    took_s = start["outcome"]["took_s"]
    assert (start["outcome"]["action"], took_s > 0) == ("ready", True)
    assert start["details"]["cost"]["moved_bytes"] > 0
    told = service.run("decisions", "--model", "tiny-llama", "--limit", "3").stdout
    assert f"(estimate {start['details']['estimate_s']:.2f} s, took {took_s:.2f} s)" in told
    counted = 'roundhouse_estimate_error_seconds_count{model="tiny-llama",transition="start"}'
    until(lambda: counted in _metrics(service))


def _metrics(service: Service) -> str:
    with service.http(admin=True) as client:
        return client.get("/metrics").text


def test_why_tells_where_a_model_is_and_why_on_one_screen(service: Service) -> None:
    assert service.chat("tiny-llama").status_code == 200
    (replica,) = [each for each in service.replicas("tiny-llama") if each["state"] == "ready"]
    told = service.run("why", "llama").stdout
    lines = told.splitlines()
    assert lines[0] == f"tiny-llama serves on {replica['gpu']}"
    assert "A request now: is served at once" in told
    assert "Decided last:" in told
    of_replica = service.json("why", "--replica", replica["replica_id"])
    assert of_replica["replicas"][0]["because"]["action"] in ("start", "wake")
    of_gpu = service.json("why", "--gpu", replica["gpu"])
    assert replica["replica_id"] in [each["replica_id"] for each in of_gpu["replicas"]]
    service.order("tiny-llama", "stop")
    assert service.json("why", "tiny-llama")["if_called"]["outcome"] in ("start", "evict")


def test_following_goes_on_over_the_death_of_the_controller(service: Service) -> None:
    service.order("tiny-topics", "wake")  # there is a last decision, and somebody to adopt
    command = [service.roundhouse, "decisions", "--follow", "--json", "--limit", "1"]
    following = subprocess.Popen(
        command, env=service.environ(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert following.stdout is not None
        assert json.loads(following.stdout.readline())["id"]
        before = service.admin("status")["controller"]
        os.kill(before["pid"], signal.SIGKILL)
        until(lambda: service.admin("status")["controller"]["pid"] != before["pid"], 60)
        service.order("tiny-topics", "stop")
        service.order("tiny-topics", "wake")
        seen: list[dict[str, Any]] = []
        while not any(each["model_id"] == "tiny-topics" and each["action"] == "ready" for each in seen):
            line = following.stdout.readline()
            assert line, "it has ended"
            seen.append(json.loads(line))
        assert len({each["id"] for each in seen}) == len(seen)
        assert {"adopt", "start"} <= {each["action"] for each in seen}
    finally:
        following.terminate()
        following.wait(10)


def test_every_decision_is_kept_in_a_file_that_the_configuration_names(
    service: Service, config: Path, tmp_path: Path
) -> None:
    was = config.read_text()
    kept = tmp_path / "kept" / "decisions.jsonl"
    config.write_text(yaml.safe_dump({**yaml.safe_load(was), "decisions": {"export": str(kept)}}))
    try:
        service.run("reload")
        service.order("tiny-topics", "stop")
        service.order("tiny-topics", "wake")
        last = _last(service, "tiny-topics", "ready")
        until(lambda: kept.exists() and f'"{last["key"]}"' in kept.read_text())
    finally:
        config.write_text(was)
        service.run("reload")
    lines = [json.loads(line) for line in kept.read_text().splitlines()]
    by_key = {each["key"]: each for each in lines}
    assert by_key[by_key[last["key"]]["of"]]["action"] == "start"
    exported = tmp_path / "all.jsonl.gz"
    done = service.json("decisions", "--export", str(exported), "--since", "1h")
    assert done["decisions"] >= len(lines)
