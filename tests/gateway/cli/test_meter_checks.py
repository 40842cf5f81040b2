"""What ``doctor`` says of metering."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.meter_checks import metering
from gateway.service import record
from models.home import Home
from models.store.codec import encode
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from models.store.usage import MeterStatus


@pytest.fixture
def runs(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedRedis]:
    """A service with a gateway, as far as the check can see."""
    part = record.PartRecord(name="gateway", state="ready", pid=1, start_ticks=1, restarts=0, log="")
    running = record.ServiceRecord(
        pid=1, start_ticks=1, instance=home.instance, home=str(home.root), url="", config="", state="serving",
        since_unix_s=0.0, parts=(part,),
    )  # fmt: skip
    monkeypatch.setattr(record, "running", lambda home: running)
    with EmbeddedRedis(home) as server:
        yield server


def told(server: EmbeddedRedis, **more: Any) -> None:
    from models.store.client import connect

    now_us = int(time.time() * 1e6)
    given: dict[str, Any] = {"machine": "here", "at_us": now_us, "settles": True, "settled_us": now_us}
    with connect(server.url) as client:
        client.hset(Keys().usage_meters, "here", encode(MeterStatus(**given | more)))


def test_without_a_gateway_there_is_nothing_to_be_metered(home: Home) -> None:
    assert metering(home).verdict == "ok"


def test_a_meter_that_settles(runs: EmbeddedRedis, home: Home) -> None:
    told(runs)
    check = metering(home)
    assert (check.verdict, check.cure) == ("ok", "")
    assert check.found.startswith("1 meter, settled up to")


def test_no_meter(runs: EmbeddedRedis, home: Home) -> None:
    check = metering(home)
    assert check.verdict == "warn"
    assert str(Path("logs") / "meter.log") in check.cure


def test_a_meter_that_is_behind(runs: EmbeddedRedis, home: Home) -> None:
    told(runs, settled_us=int((time.time() - 200) * 1e6), waits_for="the controller")
    check = metering(home)
    assert check.verdict == "warn"
    assert "the rest waits for the controller" in check.found


def test_a_store_that_does_not_answer_is_another_checks(runs: EmbeddedRedis, home: Home) -> None:
    runs.kill()
    assert metering(home).verdict == "ok"
