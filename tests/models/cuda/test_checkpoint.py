"""The tier without residue: a real helper process, over a driver that is played and as strict as the real one."""

from __future__ import annotations

import io
import json
import os
import sys
from types import ModuleType, SimpleNamespace

import msgspec
import pytest

from models.cuda import checkpoint as tier_module
from models.cuda.checkpoint import CheckpointTier, Helper, StateLost
from models.cuda.checkpoint_helper import HelperReply, Unsupported, kind_of, real_process, serve
from models.runtimes.protocol import EngineError
from tests.models.cuda.fake_checkpoint import STATE

pytestmark = pytest.mark.anyio

MIB = 1 << 20


class Driver:
    """The file behind ``FakeProcess``, and what the device's driver says that the engine holds."""

    def __init__(self, path):
        self.path = path
        self.held = [700 * MIB]
        self.write(state="running", fails={}, done=[])

    def write(self, **changes):
        seen = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.path.write_text(json.dumps(seen | changes))

    def __getattr__(self, name):
        return json.loads(self.path.read_text())[name]

    def device_bytes(self):
        """As listed: nothing while it is away, unless the test has said what comes next."""
        if len(self.held) > 1:
            return self.held.pop(0)
        return 0 if self.state == "checkpointed" else self.held[0]


@pytest.fixture
def driver(tmp_path, monkeypatch):
    played = Driver(tmp_path / "state.json")
    monkeypatch.setenv(STATE, str(played.path))
    return played


@pytest.fixture
async def helper():
    beside = Helper("--process", "tests.models.cuda.fake_checkpoint:FakeProcess")
    yield beside
    await beside.close()


async def no_pause(_):
    return None


@pytest.fixture
def tier(helper, driver):
    return CheckpointTier(helper, driver.device_bytes, pid=4242, lock_timeout_s=1.5, pause=no_pause)


async def test_there_and_back(tier, driver):
    await tier.suspend()
    assert driver.state == "checkpointed"
    assert tier.host_bytes == 700 * MIB
    await tier.resume()
    assert driver.state == "running"
    assert tier.host_bytes == 0
    assert driver.done == ["lock 4242 1500", "checkpoint", "restore", "unlock"]
    assert tier.timings_s.keys() == {"lock", "checkpoint", "restore"}


async def test_resuming_what_runs_is_nothing(tier, driver):
    await tier.resume()
    assert driver.done == []


async def test_work_that_does_not_end_leaves_it_running(tier, driver):
    driver.write(fails={"lock": "CUDA_ERROR_NOT_READY: the lock timed out"})
    with pytest.raises(EngineError, match=r"^the engine's GPU work did not end within 1.5 s$") as refused:
        await tier.suspend()
    assert refused.value.fault == "hang"
    assert driver.state == "running"


async def test_a_checkpoint_that_fails_is_unlocked_again(tier, driver):
    driver.write(fails={"checkpoint": "CUDA_ERROR_UNKNOWN"})
    with pytest.raises(EngineError, match="the driver could not checkpoint the engine's GPU state: CUDA_ERROR_UNKNOWN"):
        await tier.suspend()
    assert driver.state == "running"
    assert driver.done[-1] == "unlock"


async def test_a_machine_that_cannot_is_told_with_the_cure(tier, driver):
    driver.write(fails={"lock": "CUDA checkpointing is not supported by the installed NVIDIA driver."})
    with pytest.raises(
        EngineError, match=r"needs NVIDIA driver 570 or newer and the package cuda-core: choose sleep: unmap"
    ):
        await tier.suspend()


async def test_no_room_to_come_back_to_leaves_it_away(tier, driver):
    await tier.suspend()
    driver.write(fails={"restore": "CUDA_ERROR_OUT_OF_MEMORY"})
    for _ in range(2):
        with pytest.raises(EngineError, match=r"^the device has no room for the engine's GPU state$") as refused:
            await tier.resume()
        assert refused.value.fault == "memory"
    assert tier.host_bytes == 700 * MIB
    driver.write(fails={})
    await tier.resume()
    assert driver.state == "running"


@pytest.mark.parametrize("failing", ["checkpoint", "restore", "unlock"])
async def test_a_state_that_nobody_can_mend_ends_the_engine(tier, driver, failing):
    if failing != "checkpoint":
        await tier.suspend()
    driver.write(fails={failing: "CUDA_ERROR_UNKNOWN"}, after="failed" if failing != "unlock" else "locked")
    with pytest.raises(StateLost, match=r"the engine's GPU state is (failed|locked)"):
        await (tier.suspend() if failing == "checkpoint" else tier.resume())


async def test_what_stays_on_the_device_is_no_checkpoint(tier, driver):
    driver.held = [700 * MIB, *[3 * MIB] * 100]
    with pytest.raises(EngineError, match=r"^3 MiB stayed on the GPU after the engine was checkpointed$"):
        await tier.suspend()
    assert driver.state == "running"


async def test_the_driver_may_take_a_moment_to_settle_its_books(tier, driver):
    driver.held = [700 * MIB, 600 * MIB, 600 * MIB, 0]
    await tier.suspend()
    assert driver.state == "checkpointed"


async def test_a_driver_that_lists_nothing_is_warned_of(tier, driver, caplog):
    driver.held = [0]
    await tier.suspend()
    assert "that nothing stays is not checked" in caplog.text


async def test_a_helper_that_ends_is_replaced(tier, helper, driver):
    driver.write(fails={"lock": "exit"})
    with pytest.raises(EngineError, match="the process that was to lock the engine's GPU state has ended"):
        await tier.suspend()
    driver.write(fails={})
    await tier.suspend()
    assert driver.state == "checkpointed"


async def test_an_answer_that_does_not_come_is_not_waited_for(driver):
    deaf = Helper("--process", "tests.models.cuda.fake_checkpoint:FakeProcess")
    process = await deaf._start()
    os.kill(process.pid, 19)  # SIGSTOP
    with pytest.raises(
        EngineError, match=r"^the driver did not state the engine's GPU state within 0.05 s$"
    ) as refused:
        await deaf.do("state", 1, 0.05)
    assert refused.value.fault == "hang"
    assert process.returncode is not None


async def test_the_helper_ends_with_its_engine(helper, driver):
    reply = await helper.do("state", 1, 30.0)
    assert (reply.ok, reply.state) == (True, "running")
    process = helper._process
    assert process is not None
    assert process.stdin is not None
    process.stdin.close()
    assert await process.wait() == 0


def replies(lines, find):
    out = io.BytesIO()
    serve(io.BytesIO(lines), out, find)
    return [msgspec.json.decode(line, type=HelperReply) for line in out.getvalue().splitlines()]


def test_a_line_that_is_no_order_is_answered():
    (reply,) = replies(b'{"op": "melt", "pid": 1}\n', None)
    assert not reply.ok
    assert reply.error.startswith("not a request: Invalid enum value 'melt'")


def test_a_machine_without_the_means_is_answered():
    def find(pid):
        raise Unsupported("this machine has no NVIDIA driver")

    (reply,) = replies(b'{"op": "lock", "pid": 1}\n', find)
    assert (reply.kind, reply.error) == ("unsupported", "this machine has no NVIDIA driver")


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("CUDA_ERROR_NOT_READY: device not ready", "busy"),
        ("CUDA_ERROR_OUT_OF_MEMORY", "memory"),
        ("CUDA_ERROR_NOT_SUPPORTED", "unsupported"),
        ("CUDA checkpointing requires cuda.bindings with CUDA checkpoint API support.", "unsupported"),
        ("CUDA_ERROR_ILLEGAL_STATE", "other"),
    ],
)
def test_failures_have_kinds(message, kind):
    assert kind_of(message) == kind


def cuda_core(monkeypatch, init, **parts):
    """cuda-core and its bindings as installed on a machine, with a driver that answers ``init``."""

    class Code(int):
        name = "CUDA_ERROR_NO_DEVICE"

    def start(flags):
        if isinstance(init, Exception):
            raise init
        return (Code(init),)

    core, bindings = ModuleType("cuda.core"), ModuleType("cuda.bindings.driver")
    core.__dict__.update(parts)
    bindings.__dict__["cuInit"] = start
    monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.core", core)
    monkeypatch.setitem(sys.modules, "cuda.bindings", ModuleType("cuda.bindings"))
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", bindings)


def test_the_real_process_is_cuda_cores_with_a_started_driver(monkeypatch):
    cuda_core(monkeypatch, 0, checkpoint=SimpleNamespace(Process=lambda pid: ("process", pid)))
    made: object = real_process(7)
    assert made == ("process", 7)


@pytest.mark.parametrize(
    ("init", "parts", "why"),
    [
        (0, {}, "cuda-core, 1.0 or newer, is not installed"),
        (RuntimeError("no library"), {"checkpoint": None}, "this machine has no NVIDIA driver"),
        (100, {"checkpoint": None}, "the NVIDIA driver cannot be started: CUDA_ERROR_NO_DEVICE"),
    ],
)
def test_what_is_missing_is_named(monkeypatch, init, parts, why):
    cuda_core(monkeypatch, init, **parts)
    with pytest.raises(Unsupported, match=why):
        real_process(7)


def test_waits_are_bounded():
    assert tier_module.LOCK_TIMEOUT_S < tier_module.MOVE_TIMEOUT_S
    assert tier_module.RESIDUE_PATIENCE_S / tier_module.RESIDUE_PERIOD_S < 100
