"""The benchmark's own service is started with the real command line's options, asked at once, and taken down."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.coldstart import service as own
from loadtests.coldstart.__main__ import timed_starts
from loadtests.coldstart.child import free_port
from loadtests.coldstart.service import OwnService, ServiceFailed
from loadtests.served import chat_models

STAND_IN = (sys.executable, str(Path(__file__).with_name("stand_in.py")))


def test_up_is_timed_from_the_command_to_the_first_token(tmp_path: Path) -> None:
    service = OwnService(tmp_path, free_port(), STAND_IN)
    target, seconds = service.up("llama")
    try:
        assert seconds > 0.02
        assert chat_models(target) == ["llama", "qwen"]
    finally:
        service.down()


def test_it_is_started_twice_because_the_first_time_makes_models(tmp_path: Path) -> None:
    fresh, prepared = timed_starts(tmp_path, OwnService(tmp_path, free_port(), STAND_IN), "llama")
    assert fresh.goal is None
    assert prepared.goal == 25
    assert len(fresh.values) == len(prepared.values) == 1


def test_a_command_that_fails_is_told_with_its_output(tmp_path: Path) -> None:
    service = OwnService(tmp_path, 1, (sys.executable, "-c", "import sys; sys.exit('no GPU named')"))
    with pytest.raises(ServiceFailed, match=r"`roundhouse up` exited with 1:\nno GPU named"):
        service.up("llama")
    with pytest.raises(ServiceFailed, match=r"`roundhouse down` exited with 1:\nno GPU named"):
        service.down()


@pytest.mark.parametrize("patience", ["UP_TIMEOUT_S", "AFTER_UP_TIMEOUT_S"])
def test_a_service_that_never_answers_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: str
) -> None:
    monkeypatch.setattr(own, patience, 0.3)
    service = OwnService(tmp_path, 1, (sys.executable, "-c", "print('up, but deaf')"))
    with pytest.raises(ServiceFailed, match=r"no answer within \d+ s of `roundhouse up` \(no service is running"):
        service.up("llama")


def test_the_surrounding_service_does_not_leak_into_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUNDHOUSE_URL", "http://127.0.0.1:1")
    found = OwnService(tmp_path, 1).environment()
    assert found["ROUNDHOUSE_HOME"] == str(tmp_path)
    assert "ROUNDHOUSE_URL" not in found


def test_the_command_is_the_one_of_this_checkout(tmp_path: Path) -> None:
    service = OwnService(tmp_path, 1)
    asked = [*service.command, "version", "--json"]
    done = subprocess.run(asked, cwd=tmp_path, env=service.environment(), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)
