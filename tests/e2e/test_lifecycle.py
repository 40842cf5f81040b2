"""Up and down: nothing is left behind, whatever happened in between; another Redis works as well."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

from models.store.embedded import find_redis_server
from tests.e2e.service import ROUNDHOUSE, Service, free_port, processes_of, temporary_home, until


def test_up_with_redis_over_tcp_then_down_leaves_no_process(config: Path) -> None:
    with temporary_home() as home:
        port = free_port()
        redis = subprocess.Popen([str(find_redis_server()), "--port", str(port), "--bind", "127.0.0.1", "--save", ""])
        service = Service(home, free_port(), {"ROUNDHOUSE_REDIS_URL": f"redis://127.0.0.1:{port}/0"})
        try:
            service.up("--config", str(config))
            assert not (home / "run" / "redis.sock").exists()
            assert service.chat("tiny-llama").status_code == 200
            assert oct((home / "demo.env").stat().st_mode & 0o777) == "0o600"
            assert service.json("status")["url"] == service.url
            assert processes_of(home)
            service.down()
            assert processes_of(home) == []
        finally:
            service.run("down", check=False)
            redis.terminate()
            redis.wait(10)


def test_killed_in_the_middle_of_starting_leaves_nothing(config: Path) -> None:
    with temporary_home() as home:
        service = Service(home, free_port())
        command = [ROUNDHOUSE, "up", "--config", str(config), "--port", str(service.port)]
        up = subprocess.Popen(command, env=service.environ(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until(lambda: len(processes_of(home)) >= 4, timeout_s=30)
            os.kill(up.pid, signal.SIGKILL)
            up.wait()
            service.down()
            assert processes_of(home) == []
        finally:
            service.run("down", check=False)


def test_down_without_a_service_says_so(tmp_path: Path) -> None:
    with temporary_home() as home:
        service = Service(home, free_port())
        done = service.run("down", "--json")
        assert json.loads(done.stdout)
        assert processes_of(home) == []
