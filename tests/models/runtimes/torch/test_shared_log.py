"""Who prints is known by the context that it runs in, task or thread."""

from __future__ import annotations

import asyncio
import io
import threading
from pathlib import Path

import pytest

from models.runtimes.host.engine_log import LOOK_EVERY_S, read_head
from models.runtimes.torch.shared_log import CURRENT, ReplicaLog, SplitStream
from tests.models.runtimes.orders import order

pytestmark = pytest.mark.anyio


@pytest.fixture
def logs(tmp_path):
    made = [ReplicaLog(order(tmp_path, name)) for name in ("a", "b")]
    yield made
    for log in made:
        log.close()


def text(tmp_path, name):
    return (tmp_path / "logs" / f"{name}.log").read_text()


async def test_each_task_and_its_threads_write_to_their_own(tmp_path, logs):
    behind = io.StringIO()
    stream = SplitStream(behind)

    async def replica(log, word):
        CURRENT.set(log)
        print(word, file=stream)
        await asyncio.sleep(0)
        await asyncio.to_thread(print, f"{word} in a thread", file=stream)

    print("nobody", file=stream)
    await asyncio.gather(replica(logs[0], "one"), replica(logs[1], "two"))
    stray = threading.Thread(target=print, args=("stray",), kwargs={"file": stream})
    stray.start()
    stray.join()
    assert text(tmp_path, "a").splitlines()[1:] == ["one", "one in a thread"]
    assert text(tmp_path, "b").splitlines()[1:] == ["two", "two in a thread"]
    assert behind.getvalue() == "nobody\nstray\n"


def test_a_log_says_whose_it_is(tmp_path, logs):
    head = read_head(Path(tmp_path / "logs" / "a.log"))
    assert head is not None
    assert head.replica_id == "a"


def test_after_its_end_nobody_is_heard(tmp_path, logs):
    logs[0].close()
    logs[0].write("too late")
    logs[0].close()
    assert "too late" not in text(tmp_path, "a")


def test_what_cannot_be_encoded_is_written_all_the_same(tmp_path, logs):
    logs[0].write("half a character: \udc80\n")
    assert "\\udc80" in text(tmp_path, "a")


def test_a_log_that_cannot_be_written(tmp_path):
    (tmp_path / "logs" / "c.log").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        ReplicaLog(order(tmp_path, "c"))


async def test_it_is_looked_after_until_cancelled(logs):
    keeping = asyncio.create_task(logs[0].keep_bounded())
    await asyncio.sleep(0)
    assert LOOK_EVERY_S > 0
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping


def test_a_stream_like_others():
    stream = SplitStream(io.StringIO())
    assert stream.writable()
    stream.flush()
