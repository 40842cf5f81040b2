"""A real launcher process and real children, with a runtime that has no model."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models.runtimes import wire
from models.runtimes.client import EngineConnection, LauncherClient, scan
from models.runtimes.host.exits import read_exit_report
from models.runtimes.protocol import Device, EngineError
from tests.models.runtimes.fake_runtime import NAME
from tests.models.runtimes.http_calls import call
from tests.models.runtimes.launchers import engine_pids, is_alive, launcher, short_folder, until_gone
from tests.models.runtimes.orders import order

pytestmark = pytest.mark.anyio

FAKE = f"{NAME}:make"


@pytest.fixture(scope="module")
def shared():
    """One launcher for the tests that do not end it."""
    with short_folder() as folder, launcher(folder, f"{FAKE},{NAME}:missing,{NAME}:defective") as running:
        yield running


@pytest.fixture
def folder():
    with short_folder() as made:
        yield made


async def test_it_says_what_it_has_and_what_it_has_not(shared):
    status = await shared.ready()
    assert status.pid == shared.process.pid
    assert status.runtimes["fake"] == "1.2.3"
    assert status.runtimes["missing"] == "unavailable: No module named 'accelerator'"
    assert status.runtimes["defective"].startswith("unavailable: it broke while it was warmed")
    assert status.rss_bytes > 1 << 20


async def test_an_order_becomes_a_process_of_its_own_that_serves(shared):
    await shared.ready()
    ordered = order(shared.folder, "own")
    engine = await shared.start(ordered)
    pid = engine.status.pid
    assert pid != shared.process.pid
    assert os.getsid(pid) == pid
    assert await call(ordered.http_path, "/echo", "hello") == (
        200,
        {"model": "some-model", "pid": pid, "sent": "hello"},
    )
    for path in (ordered.http_path, ordered.control_path):
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    await engine.call("stop")
    await engine.closed.wait()
    await until_gone(pid)
    assert not Path(ordered.http_path).exists()
    report = read_exit_report(ordered.control_path)
    assert report is not None
    assert report.code == 0


async def test_a_child_keeps_nothing_of_the_launchers_open(shared):
    await shared.ready()
    engine = await shared.start(order(shared.folder, "open"))
    inodes = {os.stat(f"/proc/{shared.process.pid}/fd/{fd}").st_ino for fd in shared_sockets(shared.process.pid)}
    kept = {os.stat(f"/proc/{engine.status.pid}/fd/{fd}").st_ino for fd in shared_sockets(engine.status.pid)}
    assert inodes
    assert not inodes & kept
    await engine.call("stop")
    await engine.close()


def shared_sockets(pid):
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            if os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:"):
                found.append(fd)
        except FileNotFoundError:
            continue
    return found


async def test_a_killed_engine_is_reported_with_its_signal(shared):
    await shared.ready()
    engine = await shared.start(order(shared.folder, "killed"))
    os.kill(engine.status.pid, signal.SIGKILL)
    await asyncio.wait_for(engine.closed.wait(), 10)
    assert engine.end_reason() == (
        f"the engine's process {engine.status.pid} was killed by signal 9 (Killed) while it served,"
        " sent by another process: the kernel reports no lack of memory"
    )
    with pytest.raises(EngineError, match="signal 9"):
        await engine.call("renew")


async def test_an_engine_that_dies_while_it_loads_is_reported_with_its_last_words(shared):
    await shared.ready()
    connection = await shared.client.start(order(shared.folder, "dies", exits=3, say="no room at the inn"))
    with pytest.raises(EngineError, match="ended with code 3 while it loaded: no room at the inn"):
        await connection.wait_ready()


async def test_a_failed_start_can_be_tried_again_at_once_under_the_same_name(shared):
    await shared.ready()
    for _ in range(5):
        connection = await shared.client.start(order(shared.folder, "again", fails="the weights are damaged"))
        with pytest.raises(EngineError, match=r"^the weights are damaged$"):
            await connection.wait_ready()
        assert not is_alive(connection.status.pid)
    engine = await shared.start(order(shared.folder, "again"))
    await engine.call("stop")
    await engine.close()


async def test_a_replica_may_be_started_again_the_moment_its_process_has_ended(shared):
    await shared.ready()
    for _ in range(20):
        engine = await shared.start(order(shared.folder, "moment"))
        os.kill(engine.status.pid, signal.SIGKILL)
        while is_alive(engine.status.pid):  # a zombie is not, reaped or not
            await asyncio.sleep(0)
        await engine.close()
    engine = await shared.start(order(shared.folder, "moment"))
    await engine.call("stop")
    await engine.close()


async def test_the_same_replica_is_not_started_twice(shared):
    await shared.ready()
    ordered = order(shared.folder, "twice")
    first, second = await asyncio.gather(shared.client.start(ordered), shared.client.start(ordered))
    outcomes = await asyncio.gather(first.wait_ready(), second.wait_ready(), return_exceptions=True)
    failed = [outcome for outcome in outcomes if isinstance(outcome, EngineError)]
    assert [str(failure) for failure in failed] == ["replica twice is running already"]
    assert (await call(ordered.http_path, "/echo"))[0] == 200
    for connection in (first, second):
        if connection.status.state == "ready":
            await connection.call("stop")
        await connection.close()


async def test_twenty_orders_at_once(shared):
    await shared.ready()
    orders = [order(shared.folder, f"many{number}") for number in range(20)]
    engines = await asyncio.gather(*(shared.start(ordered) for ordered in orders))
    assert len({engine.status.pid for engine in engines}) == 20
    found = await scan(shared.folder)
    assert {ordered.replica_id for ordered in orders} <= {status.order.replica_id for status in found}
    await asyncio.gather(*(engine.call("stop") for engine in engines))
    await asyncio.gather(*(engine.closed.wait() for engine in engines))


async def test_a_cuda_order_sees_its_own_gpu_and_a_cpu_order_none(shared):
    await shared.ready()
    gpu = Device(kind="cuda", uuid="GPU-1234", memory_bytes=1 << 30, simulated=False)
    for name, device, visible in (("gpu", gpu, "GPU-1234"), ("cpu", Device(), "")):
        ordered = order(shared.folder, name, device=device, environment=["CUDA_VISIBLE_DEVICES"])
        engine = await shared.start(ordered)
        assert json.dumps({"CUDA_VISIBLE_DEVICES": visible}) in Path(ordered.log_path).read_text()
        assert stat.S_IMODE(Path(ordered.log_path).stat().st_mode) == 0o600
        await engine.call("stop")
        await engine.close()


async def test_unavailable_and_unknown_runtimes_are_declined_and_the_others_work(shared):
    await shared.ready()
    for runtime, said in (
        ("missing", "No module named 'accelerator'"),
        ("defective", "broke while it was warmed"),
        ("tensorrt", "no runtime called 'tensorrt', only fake, missing, defective"),
    ):
        connection = await shared.client.start(order(shared.folder, "declined", runtime=runtime))
        with pytest.raises(EngineError, match=said):
            await connection.wait_ready()
    engine = await shared.start(order(shared.folder, "works"))
    await engine.call("stop")
    await engine.close()


@pytest.mark.parametrize(
    ("line", "said"),
    [(b'{"op": "dance"}\n', "dance"), (b"hello\n", "not an order"), (b'{"op": "start"}\n', "`order` is missing")],
)
async def test_a_line_that_is_no_order_is_refused(shared, line, said):
    await shared.ready()
    reader, writer = await asyncio.open_unix_connection(str(shared.socket_path))
    writer.write(line)
    assert said in json.loads(await reader.readline())["refused"]
    writer.close()
    assert (await shared.client.ping()).ready


async def test_half_a_line_and_a_hang_up_do_no_harm(shared):
    await shared.ready()
    for half in (b"", b'{"op": "sta'):
        _, writer = await asyncio.open_unix_connection(str(shared.socket_path))
        writer.write(half)
        writer.close()
    assert (await shared.client.ping()).ready


async def test_an_order_in_small_pieces_with_a_request_behind_it(shared):
    await shared.ready()
    ordered = order(shared.folder, "pieces")
    line = wire.encode(wire.LauncherRequest(op="start", order=ordered))
    renewal = wire.encode(wire.ControlRequest(seq=77, op="renew"))
    reader, writer = await asyncio.open_unix_connection(str(shared.socket_path))
    for begin in range(0, len(line), 50):
        writer.write(line[begin : begin + 50])
        await writer.drain()
        await asyncio.sleep(0.001)
    writer.write(renewal)
    seen = set()
    while "seq" not in seen:
        seen |= json.loads(await asyncio.wait_for(reader.readline(), 10)).keys()
    adopted = await EngineConnection.connect(ordered.control_path)
    await adopted.call("stop")
    writer.close()


async def test_orders_wait_while_it_warms_and_pings_are_answered(folder):
    with launcher(folder, f"{NAME}:slow") as running:
        while not running.socket_path.exists():
            await asyncio.sleep(0.01)
        connecting = asyncio.create_task(running.client.start(order(folder, runtime="slow")))
        given_up = socket.socket(socket.AF_UNIX)
        given_up.connect(str(running.socket_path))
        unwanted = order(folder, "unwanted", runtime="slow")
        given_up.sendall(wire.encode(wire.LauncherRequest(op="start", order=unwanted)))
        given_up.close()
        while not (status := await running.client.ping()).runtimes:
            await asyncio.sleep(0.01)
        assert not status.ready
        assert status.runtimes == {"slow": "1.2.3"}
        engine = await connecting
        await engine.wait_ready()
        status = await running.ready()
        assert status.warm_s >= 1.0
        assert status.started == 1  # nobody waits for the other one any more
        await engine.call("stop")
        await engine.close()


async def test_a_second_launcher_on_the_same_socket_is_refused(folder):
    with launcher(folder, FAKE) as first:
        await first.ready()
        with launcher(folder, FAKE) as second:
            assert second.process.wait(10) == 1
        assert f"a launcher (pid {first.process.pid}) listens on {first.socket_path} already" in first.log
        assert (await first.client.ping()).pid == first.process.pid


async def test_a_dead_launchers_socket_is_replaced_and_its_engines_go_on(folder):
    ordered = order(folder)
    with launcher(folder, FAKE) as first:
        await first.ready()
        engine = await first.start(ordered)
        first.process.kill()
        first.process.wait()
        assert (await call(ordered.http_path, "/echo"))[0] == 200
        with launcher(folder, FAKE) as second:
            assert (await second.ready()).pid == second.process.pid
            assert (await call(ordered.http_path, "/echo"))[0] == 200
            assert (await engine.call("renew")).state == "ready"
            # An engine that no launcher watches is gone without a report, and that is noticed, too.
            os.kill(engine.status.pid, signal.SIGKILL)
            await asyncio.wait_for(engine.closed.wait(), 10)
            assert engine.end_reason() == f"the engine's process {engine.status.pid} ended while it served"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_ends_promptly_at_a_signal_even_while_warming_and_leaves_no_socket(folder, number):
    with launcher(folder, f"{NAME}:slow") as running:
        while not running.socket_path.exists():
            await asyncio.sleep(0.01)
        await running.client.ping()
        began_s = time.monotonic()
        running.process.send_signal(number)
        assert running.process.wait(10) == 0
        assert time.monotonic() - began_s < 5
        assert not running.socket_path.exists()


async def test_quit_ends_the_launcher_alone(folder):
    with launcher(folder, FAKE) as running:
        ordered = order(folder)
        await running.ready()
        engine = await running.start(ordered)
        await running.client.quit()
        assert running.process.wait(10) == 0
        assert (await call(ordered.http_path, "/echo"))[0] == 200
        await engine.call("stop")
        await engine.closed.wait()


async def test_a_launcher_that_nobody_asks_ends_with_its_lease(folder):
    with launcher(folder, FAKE, "--lease", "1.5") as running:
        await running.ready()
        for _ in range(20):  # longer than the lease, and often enough for a machine that is busy with other things
            await asyncio.sleep(0.1)
            await running.client.ping()
        assert running.process.poll() is None
        assert running.process.wait(10) == 0


async def test_an_engine_whose_owner_is_gone_ends_with_its_lease(folder):
    with launcher(folder, FAKE) as running:
        await running.ready()
        engine = await running.start(order(folder, lease_s=0.3))
        await engine.close()
        await until_gone(engine.status.pid)
        assert engine_pids(folder) == []
        assert await scan(folder) == []


async def test_there_is_no_launcher(folder):
    with pytest.raises(FileNotFoundError):
        await LauncherClient(folder / "none.sock").ping()


def test_its_help_says_what_it_does():
    done = subprocess.run(
        [sys.executable, "-m", "models.runtimes.launcher", "--help"], capture_output=True, text=True, check=True
    )
    assert "--socket" in done.stdout
