"""What is on record, and whether it is still true."""

from __future__ import annotations

import os
import subprocess
import sys

import msgspec
import pytest

from gateway.service import record
from gateway.service.processes import ProcessId, identify
from gateway.service.record import AlreadyRunning, PartRecord, ServiceRecord
from models.home import Home
from tests.gateway.service.conftest import Started


def a_record(home: Home, process: ProcessId) -> ServiceRecord:
    return ServiceRecord(
        pid=process.pid,
        start_ticks=process.start_ticks,
        instance=home.instance,
        home=str(home.root),
        url="http://127.0.0.1:8000",
        config=str(home.config),
        state="serving",
        since_unix_s=1.0,
        parts=(PartRecord(name="redis", state="ready", pid=7, start_ticks=8, restarts=0, log="redis.log"),),
    )


def me() -> ProcessId:
    found = identify(os.getpid())
    assert found is not None
    return found


def test_what_is_written_can_be_read(home: Home) -> None:
    written = a_record(home, me())
    record.write(home, written)
    assert record.read(home) == record.running(home) == written
    assert [path.name for path in home.run.iterdir() if path.suffix == ".part"] == []
    record.remove(home)
    record.remove(home)
    assert record.read(home) is None


def test_the_record_of_a_process_that_is_gone_is_not_believed(home: Home) -> None:
    record.write(home, a_record(home, ProcessId(me().pid, me().start_ticks + 1)))
    assert record.read(home) is not None
    assert record.running(home) is None, "the pid is alive, but it is somebody else"


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b'{"pid": "x"}'])
def test_a_broken_record_is_none(home: Home, junk: bytes) -> None:
    home.service_file.write_bytes(junk)
    assert record.read(home) is None


def test_the_lock_is_for_one(home: Home, start: Started) -> None:
    assert record.holder(home) is None
    code = "import sys, time; from gateway.service import record; from models.home import Home\n"
    code += "record.lock(Home.find(sys.argv[1])); print('locked', flush=True); time.sleep(600)"
    other = start(sys.executable, "-c", code, str(home.root), stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    assert record.holder(home) == identify(other.pid)
    with pytest.raises(AlreadyRunning, match=f"already runs for {home.root}$"):
        record.lock(home)
    record.write(home, msgspec.structs.replace(a_record(home, me()), url="http://127.0.0.1:9"))
    with pytest.raises(AlreadyRunning, match=r"at http://127\.0\.0\.1:9 "):
        record.lock(home)
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, but nobody has collected its exit status
    os.close(record.lock(home))
    assert record.holder(home) is None, "the lock went with its holder"
