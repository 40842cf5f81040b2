"""Imports in processes of their own: killed in the middle, two at once, watched from outside, or left alone."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from models.weights.child import Outcome, fetch_in_child
from models.weights.errors import SourceRefused, TransferFailed
from models.weights.records import Progress
from models.weights.store import WeightStore
from tests.models.weights.conftest import weights_of

pytestmark = pytest.mark.anyio
URL = "hf://org/tiny@main"
NAME = "model.safetensors"
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def big(hub):
    """A second's worth of download."""
    hub.files[NAME] = weights_of(4 * 2**20)
    hub.pause_s = 0.004
    return hub


@pytest.fixture
def environment(monkeypatch, hub):
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # services are told so; a child that fetches is not


def start(root: Path) -> subprocess.Popen[bytes]:
    env = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "models.weights", "--root", str(root), "--source", URL]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=env)


def lines(child: subprocess.Popen[bytes]) -> list[dict]:
    assert child.stdout is not None
    with child.stdout:
        found = [msgspec.json.decode(line) for line in child.stdout]
    child.wait()
    return found


@pytest.mark.chaos
def test_killed_in_the_middle_it_goes_on(tmp_path, big, environment):
    child = start(tmp_path)
    assert child.stdout is not None
    for line in child.stdout:
        if msgspec.json.decode(line).get("bytes_done", 0) > 2**20:
            break
    os.kill(child.pid, signal.SIGKILL)
    child.stdout.close()
    child.wait()
    store = WeightStore(tmp_path)
    [interrupted] = store.progress()
    assert interrupted.phase == "failed"
    assert interrupted.error == "it was interrupted; the next attempt goes on from there"
    had = sum(path.stat().st_size for path in tmp_path.glob("partial/*/*.part"))
    assert had > 2**20 - 256 * 1024
    big.sent.clear()
    *_, outcome = lines(start(tmp_path))
    folder = Path(outcome["folder"])
    assert (folder / NAME).read_bytes() == big.files[NAME]
    assert big.sent[NAME] == len(big.files[NAME]) - had, "what was there did not come again"
    print(f"\nkilled after {had} of {len(big.files[NAME])} bytes; {big.sent[NAME]} came after that")


def test_two_at_once_download_once(tmp_path, big, environment):
    first, second = start(tmp_path), start(tmp_path)
    outcomes = [lines(first)[-1], lines(second)[-1]]
    assert outcomes[0]["folder"] == outcomes[1]["folder"]
    assert big.sent[NAME] == len(big.files[NAME])


def test_it_ends_when_nobody_listens(tmp_path, big, environment):
    child = start(tmp_path)
    assert child.stdout is not None
    child.stdout.readline()
    child.stdout.close()
    assert child.wait(timeout=60) == 1
    assert big.sent_bytes < sum(map(len, big.files.values()))


async def test_whoever_waits_for_it_sees_how_far_it_is(tmp_path, big, environment):
    told: list[Progress] = []
    seen: list[Progress | None] = []

    def tell(progress: Progress) -> None:
        told.append(progress)
        seen.append(WeightStore(tmp_path).progress_of(URL))

    folder = await fetch_in_child(tmp_path, URL, tell)
    assert (folder / NAME).read_bytes() == big.files[NAME]
    shares = [each.fraction for each in told]
    assert any(0.0 < share < 1.0 for share in shares)
    assert shares[-1] == 1.0
    assert any(each is not None and 0 < each.bytes_done < each.bytes_total for each in seen), "for anybody on the node"


async def test_a_refusal_comes_through(tmp_path, hub, environment):
    hub.gated = True
    with pytest.raises(SourceRefused, match="access to it must be asked for on the hub; ask for it, then set HF_TOKEN"):
        await fetch_in_child(tmp_path, URL, lambda progress: None)


async def test_a_failure_comes_through(tmp_path, monkeypatch, environment):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(TransferFailed, match="check the network and try again"):
        await fetch_in_child(tmp_path, URL, lambda progress: None)


async def test_when_nobody_waits_any_more_it_ends_and_what_came_stays(tmp_path, big, environment):
    begun = asyncio.Event()

    def tell(progress: Progress) -> None:
        if progress.bytes_done > 500_000:
            begun.set()

    task = asyncio.create_task(fetch_in_child(tmp_path, URL, tell))
    await asyncio.wait_for(begun.wait(), 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sum(path.stat().st_size for path in tmp_path.glob("partial/*/*.part")) > 250_000
    deadline_s = time.monotonic() + 10
    while WeightStore(tmp_path).items()[0].held and time.monotonic() < deadline_s:
        await asyncio.sleep(0.01)
    assert WeightStore(tmp_path).items()[0].held == ""


def test_the_outcome_can_be_read_back():
    assert msgspec.json.decode(msgspec.json.encode(Outcome(error="x", refused=True)), type=Outcome).refused
