"""Parts as real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from gateway.service.host import LocalHost
from gateway.service.processes import alive, find
from gateway.service.spec import PartSpec
from tests.gateway.service.conftest import Started
from tests.gateway.service.eventually import eventually

pytestmark = pytest.mark.anyio


def part(code: str, **env: str) -> PartSpec:
    return PartSpec(
        name="part", what="a part", command=(sys.executable, "-c", code), ready=None, env={**os.environ, **env}
    )


async def test_a_part_has_its_own_session_environment_and_log(tmp_path: Path) -> None:
    host = LocalHost(tmp_path)
    running = host.spawn(
        part("import os; print(os.environ['COLOUR'], os.getsid(0) == os.getpid(), os.getcwd())", COLOUR="red")
    )
    assert await running.wait() == 0
    assert host.log_lines("part", 10) == [f"red True {tmp_path}"]
    assert host.log_path("part").stat().st_mode & 0o777 == 0o600
    assert running.over


async def test_only_the_lines_of_the_last_start_are_shown(tmp_path: Path) -> None:
    host = LocalHost(tmp_path)
    for text in ("first", "second"):
        await host.spawn(part(f"print('{text} a'); print('{text} b')")).wait()
    assert host.log_lines("part", 10) == ["second a", "second b"]
    assert host.log_lines("part", 1) == ["second b"]
    assert host.log_lines("never started", 10) == []
    assert "first a" in host.log_path("part").read_text()


async def test_a_log_that_has_grown_too_large_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.service.host.LARGEST_LOG_BYTES", 10)
    host = LocalHost(tmp_path)
    for text in ("a long first line", "next"):
        await host.spawn(part(f"print('{text}')")).wait()
    assert host.log_path("part").read_text() == "next\n"
    assert (tmp_path / "part.log.1").read_text() == "a long first line\n"


async def test_exit_status_and_signals(tmp_path: Path) -> None:
    host = LocalHost(tmp_path)
    assert await host.spawn(part("raise SystemExit(3)")).wait() == 3
    running = host.spawn(part("import time; time.sleep(600)"))
    running.signal(signal.SIGTERM)
    assert await running.wait() == -signal.SIGTERM
    running.signal(signal.SIGKILL)  # too late, and harmless


async def test_what_is_left_of_a_session_can_be_cleared(tmp_path: Path) -> None:
    host = LocalHost(tmp_path)
    code = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid)"
    running = host.spawn(part(code))
    await running.wait()
    child = find(int(host.log_lines("part", 1)[0]))
    assert child is not None
    await running.clear()
    assert not alive(child.id)


async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LocalHost(tmp_path).spawn(PartSpec(name="part", what="a part", command=("/no/such/program",), ready=None))


async def test_orphans_below_are_collected_but_not_what_was_started_here(tmp_path: Path) -> None:
    """An orphan falls to whoever has adopted it; its exit status must be taken, or it stays a zombie for ever."""
    code = """
import asyncio, os, subprocess, sys
from pathlib import Path
from gateway.service.host import LocalHost, _children
from gateway.service.spec import PartSpec

async def main():
    host = LocalHost(Path(sys.argv[1]))
    host.adopt_orphans()
    middle = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)"
    await host.spawn(PartSpec(name="middle", what="", command=(sys.executable, "-c", middle), ready=None)).wait()
    ended = host.spawn(PartSpec(name="ended", what="", command=(sys.executable, "-c", "exit(7)"), ready=None))
    os.waitid(os.P_PID, ended.id.pid, os.WEXITED | os.WNOWAIT)
    while len(_children()) != 1:
        host.reap_orphans()
    print(await ended.wait(), len(_children()))

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert (await process.communicate())[0] == b"7 0\n"


def test_a_part_ends_when_its_starter_is_killed(tmp_path: Path, start: Started) -> None:
    code = """
import asyncio, sys
from pathlib import Path
from gateway.service.host import LocalHost
from gateway.service.spec import PartSpec

async def main():
    host = LocalHost(Path(sys.argv[1]))
    part = PartSpec(name="part", what="", command=(sys.executable, "-c", "import time; time.sleep(600)"), ready=None)
    print(host.spawn(part).id.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""
    starter = start(sys.executable, "-c", code, str(tmp_path), stdout=-1)
    assert starter.stdout is not None
    child = find(int(starter.stdout.readline()))
    assert child is not None
    starter.kill()
    eventually(lambda: not alive(child.id), "the part has ended with its starter")
