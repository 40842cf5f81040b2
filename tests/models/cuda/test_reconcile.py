"""The ledger against the driver's books, byte for byte."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from models.cuda.reconcile import Reservation, reconcile
from models.nvml import GpuProcess, RealGpu

GIB = 1 << 30
MIB = 1 << 20


def gpu(uuid="GPU-a", used_bytes=0, reserved_bytes=0):
    return RealGpu(0, uuid, "H100", 80 * GIB, used_bytes, reserved_bytes)


def one(gpus, processes, reservations):
    (drift,) = reconcile(gpus, processes, reservations).values()
    return drift


def test_bytes_are_told_apart_by_whom_they_are_held():
    drift = one(
        [gpu(used_bytes=21 * GIB, reserved_bytes=GIB)],
        [GpuProcess("GPU-a", 10, 15 * GIB), GpuProcess("GPU-a", 99, 3 * GIB)],
        [Reservation("r1", "GPU-a", 10, 16 * GIB)],
    )
    assert (drift.ours_bytes, drift.foreign_bytes, drift.driver_bytes, drift.unexplained_bytes) == (
        15 * GIB,
        3 * GIB,
        GIB,
        2 * GIB,
    )
    assert drift.drift_bytes == 5 * GIB  # what the ledger does not know of
    assert drift.overruns == ()


def test_more_than_two_percent_too_much_is_reported():
    drift = one(
        [gpu(used_bytes=9 * GIB)],
        [GpuProcess("GPU-a", 1, 1019 * MIB), GpuProcess("GPU-a", 2, 1030 * MIB), GpuProcess("GPU-a", 3, 1200 * MIB)],
        [Reservation(f"r{pid}", "GPU-a", pid, 1000 * MIB) for pid in (1, 2, 3)],
    )
    assert [str(overrun) for overrun in drift.overruns] == [
        "r2 holds 1030 MiB and has reserved 1000 MiB (+3.0%)",
        "r3 holds 1200 MiB and has reserved 1000 MiB (+20.0%)",
    ]


def test_replicas_of_one_process_are_judged_together():
    sharing = [Reservation("a", "GPU-a", 5, 100 * MIB), Reservation("b", "GPU-a", 5, 100 * MIB)]
    assert one([gpu()], [GpuProcess("GPU-a", 5, 190 * MIB)], sharing).overruns == ()
    (over,) = one([gpu()], [GpuProcess("GPU-a", 5, 300 * MIB)], sharing).overruns
    assert (over.replica_id, over.over_bytes) == ("a + b", 100 * MIB)


def test_a_process_the_driver_does_not_tell_of_is_named():
    drift = one(
        [gpu(used_bytes=GIB)],
        [GpuProcess("GPU-a", 1, None)],
        [Reservation("untold", "GPU-a", 1, GIB), Reservation("unlisted", "GPU-a", 2, GIB)],
    )
    assert drift.silent == ("untold", "unlisted")
    assert drift.unexplained_bytes == GIB


def test_nothing_reserved_and_something_held_is_an_overrun():
    (over,) = one([gpu()], [GpuProcess("GPU-a", 1, MIB)], [Reservation("r", "GPU-a", 1, 0)]).overruns
    assert str(over) == "r holds 1 MiB and has reserved 0 MiB (+inf%)"


def test_each_gpu_has_its_own_books_and_a_lost_one_none():
    books = reconcile(
        [gpu("GPU-a"), gpu("GPU-b")],
        [GpuProcess("GPU-b", 1, 5)],
        [Reservation("r", "GPU-b", 1, 5), Reservation("lost", "GPU-c", 1, 5)],
    )
    assert {uuid: drift.ours_bytes for uuid, drift in books.items()} == {"GPU-a": 0, "GPU-b": 5}


amounts = st.integers(0, GIB)


@given(
    amounts,
    amounts,
    st.dictionaries(st.integers(1, 9), st.one_of(st.none(), amounts)),
    st.lists(st.tuples(st.integers(1, 12), amounts)),
)
def test_nothing_is_counted_twice_or_left_out(used, driver, held, reserved):
    drift = one(
        [gpu(used_bytes=used, reserved_bytes=driver)],
        [GpuProcess("GPU-a", pid, size) for pid, size in held.items()],
        [Reservation(f"r{number}", "GPU-a", pid, size) for number, (pid, size) in enumerate(reserved)],
    )
    parts = drift.ours_bytes + drift.foreign_bytes + drift.driver_bytes + drift.unexplained_bytes
    assert parts == used
    assert drift.drift_bytes == used - sum(size for _, size in reserved)
    assert all(overrun.over_bytes > 0 for overrun in drift.overruns)
