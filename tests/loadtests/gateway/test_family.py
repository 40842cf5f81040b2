"""A gateway's cost is that of all its processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from loadtests.gateway.family import busy_s, end_rest, family, usage

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


def process(
    proc: Path, pid: int, parent: int, ticks: tuple[int, int] = (0, 0), pages: int = 0, open_files: int = 0
) -> None:
    folder = proc / str(pid)
    (folder / "fd").mkdir(parents=True)
    for number in range(open_files):
        (folder / "fd" / str(number)).touch()
    fields = ["S", str(parent), *["0"] * 9, str(ticks[0]), str(ticks[1]), *["0"] * 6, "1234"]
    (folder / "stat").write_text(f"{pid} (a (strange) name) {' '.join(fields)}\n")
    (folder / "statm").write_text(f"999 {pages} 0 0 0 0 0\n")


def test_descendants_are_found_however_deep(tmp_path: Path) -> None:
    for pid, parent in ((1, 0), (10, 1), (11, 10), (12, 10), (13, 12), (20, 1)):
        process(tmp_path, pid, parent)
    (tmp_path / "self").mkdir()
    assert sorted(family(10, tmp_path)) == [10, 11, 12, 13]
    assert family(99, tmp_path) == []


def test_their_costs_add_up(tmp_path: Path) -> None:
    process(tmp_path, 10, 1, ticks=(3 * TICKS, TICKS), pages=10, open_files=3)
    process(tmp_path, 11, 10, ticks=(0, 2 * TICKS), pages=25, open_files=4)
    (tmp_path / "12").mkdir()  # it ends while it is looked at
    found = usage([10, 11, 12], tmp_path)
    assert (found.processes, found.cpu_s, found.descriptors) == (2, 6.0, 7)
    assert (found.rss_bytes, found.largest_rss_bytes) == (35 * PAGE, 25 * PAGE)


def test_a_core_is_busy_with_everybody(tmp_path: Path) -> None:
    """Idle time and interrupts are not what programs took."""
    cores = [f"cpu{core} {TICKS} {TICKS} {core * TICKS} 5000 70 80 90" for core in range(12)]
    (tmp_path / "stat").write_text("\n".join(["cpu 99 99 99 99", *cores, "intr 5"]))
    assert busy_s([0], tmp_path) == 2
    assert busy_s([1, 11], tmp_path) == 3 + 13
    assert busy_s(os.sched_getaffinity(0)) > 0


def test_this_process_uses_something() -> None:
    found = usage(family(os.getpid()))
    assert found.rss_bytes >= found.largest_rss_bytes > 1e6
    assert found.descriptors > 2
    assert found.cpu_s > 0


def test_what_a_process_leaves_behind_is_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert end_rest([child.pid, ended.pid], 0.0) == [child.pid]
    assert child.wait(10) == -signal.SIGKILL


def test_what_ends_by_itself_is_left_to_it() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.1)"])
    began_s = time.monotonic()
    assert end_rest([child.pid], 30.0) == []
    assert time.monotonic() - began_s < 30
    assert child.wait(10) == 0
