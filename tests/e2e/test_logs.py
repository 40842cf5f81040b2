"""``roundhouse logs`` on a real service: what engines wrote, what they are writing, and what their deaths were."""

from __future__ import annotations

import os
import signal
import subprocess

from tests.e2e.service import ROUNDHOUSE, Service, until


def test_a_crash_is_in_the_log_of_its_replica_with_the_stack_and_its_successor_after_it(service: Service) -> None:
    assert service.chat("tiny-gemma").status_code == 200
    (before,) = service.replicas("tiny-gemma")
    os.kill(before["pid"], signal.SIGABRT)
    until(lambda: [d for d in service.decisions("tiny-gemma") if "signal 6 (Aborted)" in d["reason"]])
    assert service.chat("tiny-gemma").status_code == 200
    text = service.run("logs", "tiny-gemma", "-n", "1000").stdout
    assert f"{before['replica_id']} | Fatal Python error: Aborted" in text
    last_words = f"the engine's process {before['pid']} was killed by signal 6 (Aborted), a library gave up"
    assert last_words in text
    (after,) = [replica for replica in service.replicas("tiny-gemma") if replica["state"] == "ready"]
    assert text.index(last_words) < text.index(f"{after['replica_id']} | -- {after['replica_id']}: model tiny-gemma")
    only = service.run("logs", "tiny-gemma", "--replica", after["replica_id"], "-n", "1000").stdout
    assert before["replica_id"] not in only


def test_following_goes_through_a_restart_and_ends_with_ctrl_c(service: Service) -> None:
    assert service.chat("tiny-gemma").status_code == 200
    command = [ROUNDHOUSE, "logs", "gemma", "-f", "-n", "1"]
    follower = subprocess.Popen(
        command, env=service.environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert follower.stdout is not None
    assert follower.stdout.readline()
    service.order("tiny-gemma", "stop")
    assert service.chat("tiny-gemma").status_code == 200
    (replica,) = [r for r in service.replicas("tiny-gemma") if r["state"] == "ready"]
    seen = []
    for line in follower.stdout:
        seen.append(line)
        if line.startswith(replica["replica_id"]) and "ready: fork" in line:
            break
    assert any("ending: it was told to stop" in line for line in seen)
    follower.send_signal(signal.SIGINT)
    assert follower.wait(10) == 0
    assert follower.stderr is not None
    assert follower.stderr.read() == ""


def test_prompts_are_in_no_log(service: Service) -> None:
    assert service.chat("tiny-gemma", "a-word-that-nobody-says").status_code == 200
    assert service.chat("tiny-gemma", "a-word-that-nobody-says", max_tokens=-1).status_code == 400
    for log in (service.home / "logs").rglob("*.log*"):
        assert "a-word-that-nobody-says" not in log.read_text(errors="replace"), log.name


def test_parts_have_logs_and_the_controllers_says_what_it_does(service: Service) -> None:
    assert "roundhouse.launcher: ready after" in service.run("logs", "launcher", "-n", "1000").stdout
    assert "controller ready" in service.run("logs", "controller", "-n", "1000").stdout
    assert service.run("logs", "gateway").stdout
    unknown = service.run("logs", "no-such-thing", check=False)
    assert unknown.returncode == 1
    assert "has no model 'no-such-thing'" in unknown.stderr
