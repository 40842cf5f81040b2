"""Which GPUs are lost: by the driver's word, by an Xid that only a reset ends, or by a line in a file."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from models.fleet import gpu_watch
from models.fleet.gpu_watch import FATAL_XIDS, GpuWatch
from models.runtimes.protocol import Device
from packers.types import GpuId

A, B = GpuId("n/gpu-0"), GpuId("n/gpu-1")
SIMULATED = {A: Device(id=A), B: Device(id=B)}
REAL = {A: Device(kind="cuda", uuid="GPU-a", id=A), B: Device(kind="cuda", uuid="GPU-b", id=B)}


class Driver:
    def __init__(self) -> None:
        self.gone: dict[str, str] = {}
        self.xids: list[tuple[str, int]] = []

    def missing(self) -> dict[str, str]:
        return dict(self.gone)

    def take_xids(self) -> list[tuple[str, int]]:
        taken, self.xids = self.xids, []
        return taken


def test_lines_of_the_file_name_gpus_by_their_index_and_say_why(tmp_path: Path) -> None:
    file = tmp_path / "lost"
    watch = GpuWatch(SIMULATED, file, None)
    assert watch.look() == {}
    file.write_text("1 Xid 79: it has fallen off the bus\n\n 0\n")
    assert watch.look() == {B: "Xid 79: it has fallen off the bus", A: "somebody has said so"}
    file.write_text("")
    assert watch.look() == {}


@pytest.mark.parametrize("line", ["gpu-1 broken", "7 no such GPU", "-1 below", "one"])
def test_a_line_that_names_no_gpu_is_logged_and_the_others_count(
    tmp_path: Path, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "lost"
    file.write_text(f"{line}\n0 broken\n")
    watch = GpuWatch(SIMULATED, file, None)
    with caplog.at_level(logging.WARNING):
        assert watch.look() == watch.look() == {A: "broken"}
    assert len(caplog.records) == 1
    assert "names no GPU of this node" in caplog.text


def test_a_file_that_cannot_be_read_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "lost").write_bytes(b"\xff\xfe")
    assert GpuWatch(SIMULATED, tmp_path / "lost", None).look() == {}
    assert GpuWatch(SIMULATED, tmp_path, None).look() == {}


def test_what_the_driver_does_not_find_is_lost_until_it_does(tmp_path: Path) -> None:
    driver = Driver()
    watch = GpuWatch(REAL, tmp_path / "lost", driver)
    driver.gone = {"GPU-b": "the NVIDIA driver says: GPU is lost", "GPU-of-somebody-else": "lost"}
    assert watch.look() == {B: "the NVIDIA driver says: GPU is lost"}
    driver.gone = {}
    assert watch.look() == {}


@pytest.mark.parametrize("xid", sorted(FATAL_XIDS))
def test_an_error_that_only_a_reset_ends_is_kept_over_restarts_until_its_line_is_removed(
    tmp_path: Path, xid: int
) -> None:
    driver, file = Driver(), tmp_path / "lost"
    driver.xids = [("GPU-a", xid)]
    watch = GpuWatch(REAL, file, driver)
    lost = watch.look()
    assert lost == {A: f"Xid {xid}: {FATAL_XIDS[xid]}"}
    assert watch.look() == GpuWatch(REAL, file, Driver()).look() == lost
    file.unlink()
    assert watch.look() == {}


@pytest.mark.parametrize("xid", [13, 31, 43, 45, 63, 68, 94, 109, 999])
def test_an_error_of_one_application_costs_no_gpu(tmp_path: Path, xid: int) -> None:
    driver = Driver()
    driver.xids = [("GPU-a", xid)]
    assert GpuWatch(REAL, tmp_path / "lost", driver).look() == {}
    assert not (tmp_path / "lost").exists()


def test_after_another_boot_of_the_machine_an_xid_counts_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver()
    driver.xids = [("GPU-a", 48)]
    boot = tmp_path / "boot_id"
    monkeypatch.setattr(gpu_watch, "_BOOT_ID", boot)
    boot.write_text("0a1b-2c\n")
    watch = GpuWatch(REAL, tmp_path / "lost", driver)
    assert list(watch.look()) == [A]
    boot.write_text("ffff-00\n")
    assert watch.look() == {}


def test_where_the_file_cannot_be_written_an_xid_is_known_all_the_same(tmp_path: Path) -> None:
    driver = Driver()
    driver.xids = [("GPU-b", 79)]
    watch = GpuWatch(REAL, tmp_path / "no" / "folder" / "lost", driver)
    assert watch.look() == watch.look() == {B: "Xid 79: it has fallen off the bus"}


def test_simulated_gpus_have_no_driver_to_ask() -> None:
    assert gpu_watch.driver(SIMULATED) is None


def test_an_error_that_is_reported_again_and_again_is_noted_once(tmp_path: Path) -> None:
    """Some are, every few seconds, for days; the file is read at each look."""
    driver, file = Driver(), tmp_path / "lost"
    watch = GpuWatch(REAL, file, driver)
    for _ in range(3):
        driver.xids = [("GPU-a", 119), ("GPU-a", 119), ("GPU-b", 79)]
        watch.look()
    assert len(file.read_text().splitlines()) == 2
    assert watch.look().keys() == {A, B}


def test_two_lines_that_name_no_gpu_are_logged_once_each(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "lost"
    file.write_text("one\ntwo\n0 broken\n")
    watch = GpuWatch(SIMULATED, file, None)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert watch.look() == {A: "broken"}
    assert len(caplog.records) == 2
