"""Real processes, killed with SIGKILL one after the other, until one of them comes to the end of the batch."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from gateway.batches.store import BatchStore
from gateway.clock import Clock
from models.store.client import connect_async
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from tests.gateway.batches.bench import OWNER, Bench
from tests.gateway.world import until, until_async

pytestmark = [pytest.mark.anyio, pytest.mark.chaos]
LINES = 120
KILLS = 4


async def test_killed_again_and_again(redis_server: EmbeddedRedis, keys: Keys) -> None:
    bench = Bench(redis_server.url, keys, Path(tempfile.mkdtemp(prefix="rh-batch-")), now_s=time.time())
    client = connect_async(redis_server.url)
    store = BatchStore(client, keys, bench.root / "batches", Clock())
    log = bench.root / "asked.log"
    process: subprocess.Popen[bytes] | None = None
    try:
        await bench.order(LINES)
        assert bench.record is not None
        for life in range(KILLS):
            process = begin(bench, life)
            await until(partial(has_lines, log, (life + 1) * LINES // (KILLS + 2)))
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        process = begin(bench, KILLS)

        async def completed() -> bool:
            assert bench.record is not None
            record = await store.find(OWNER, bench.record.id)
            return record is not None and record.status == "completed"

        await until_async(completed)
        output, errors = bench.files()
        assert Counter(entry["custom_id"] for entry in output) == Counter(f"r-{n}" for n in range(1, LINES + 1))
        assert errors == []
        asked = Counter(line.split()[1] for line in log.read_text().splitlines())
        assert len(asked) == LINES
        again = sum(asked.values()) - LINES
        assert again <= KILLS * 4, "only what was under way when a process was killed is asked for again"
    finally:
        if process is not None:
            process.kill()
            process.wait()
        await client.aclose()
        shutil.rmtree(bench.root, ignore_errors=True)


def has_lines(path: Path, count: int) -> bool:
    return path.exists() and len(path.read_text().splitlines()) >= count


def begin(bench: Bench, life: int) -> subprocess.Popen[bytes]:
    module = "tests.gateway.batches.worker"
    command = [sys.executable, "-m", module, bench.url, bench.keys.prefix, str(bench.root), f"life-{life}"]
    return subprocess.Popen(command, cwd=Path(__file__).parents[3], stdout=subprocess.DEVNULL)
