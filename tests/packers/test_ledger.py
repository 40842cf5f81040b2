"""The ledger: what is reserved never exceeds what there is, and a refusal changes nothing."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packers.ledger import Ledger, LedgerError, OverCapacity, UnknownGpu, UnknownNode, holds, leaving, will_hold
from packers.types import Gpu, GpuId, ModelId, Node, NodeId, ReplicaId, ReplicaState
from tests.packers.worlds import ASLEEP, DEAD, DRAINING, MIB, READY, STARTING, gpus, nodes, replica, world

A, B = ReplicaId("a-1"), ReplicaId("b-1")
M = ModelId("m")
G0, G1, H0 = GpuId("n/0"), GpuId("n/1"), GpuId("o/0")
N, OTHER = NodeId("n"), NodeId("o")


def make() -> Ledger:
    there = gpus({"n/0": 100, "n/1": 200, "o/0": 100})
    return Ledger(there, nodes(there, 50))


def test_a_reservation_takes_gpu_and_host_bytes_and_release_gives_them_back() -> None:
    ledger = make()
    ledger.reserve(A, M, G0, 60, 10)
    assert (ledger.free_gpu(G0), ledger.reserved_gpu(G0)) == (100 * MIB - 60, 60)
    assert (ledger.free_host(N), ledger.reserved_host(N)) == (50 * MIB - 10, 10)
    assert ledger.free_host(OTHER) == 50 * MIB
    (entry,) = ledger.entries()
    assert (entry.replica, entry.model, entry.gpu, entry.node) == (A, M, G0, N)
    assert ledger.release(A) == entry
    assert ledger.release(A) is None
    assert ledger.entries() == ()
    assert ledger.free_gpu(G0) == 100 * MIB


def test_too_much_gpu_memory_is_refused_with_figures() -> None:
    ledger = make()
    ledger.reserve(A, M, G0, 70 * MIB)
    with pytest.raises(OverCapacity) as refused:
        ledger.reserve(B, M, G0, 31 * MIB)
    assert (refused.value.kind, refused.value.place) == ("gpu", G0)
    assert (refused.value.needed_bytes, refused.value.free_bytes) == (31 * MIB, 30 * MIB)
    assert str(refused.value) == "replica b-1 needs 31 MiB of GPU n/0, 30 MiB are free"
    assert [entry.replica for entry in ledger.entries()] == [A]


def test_too_much_host_memory_is_refused_and_leaves_the_gpu_untouched() -> None:
    ledger = make()
    with pytest.raises(OverCapacity) as refused:
        ledger.reserve(A, M, G0, 10, 51 * MIB)
    assert (refused.value.kind, refused.value.place) == ("host", N)
    assert "host RAM of node n" in str(refused.value)
    assert ledger.reserved_gpu(G0) == 0


def test_a_new_reservation_replaces_the_old_one_in_one_go() -> None:
    ledger = make()
    ledger.reserve(A, M, G0, 90 * MIB)
    ledger.reserve(A, M, G0, 100 * MIB)  # would not fit beside the old one
    assert ledger.reserved_gpu(G0) == 100 * MIB
    ledger.reserve(A, M, G0, 5 * MIB, 50 * MIB)
    ledger.reserve(A, M, H0, 100 * MIB, 20 * MIB)
    assert (ledger.reserved_gpu(G0), ledger.reserved_host(N)) == (0, 0)
    assert (ledger.reserved_gpu(H0), ledger.reserved_host(OTHER)) == (100 * MIB, 20 * MIB)


def test_a_refused_replacement_keeps_the_old_reservation() -> None:
    ledger = make()
    ledger.reserve(A, M, G0, 40 * MIB)
    ledger.reserve(B, M, G1, 150 * MIB)
    with pytest.raises(OverCapacity) as refused:
        ledger.reserve(A, M, G1, 60 * MIB)
    assert refused.value.free_bytes == 50 * MIB
    with pytest.raises(OverCapacity) as refused:
        ledger.reserve(A, M, G0, 101 * MIB)
    assert refused.value.free_bytes == 100 * MIB, "its own bytes would be free for it"
    assert ledger.reserved_gpu(G0) == 40 * MIB


def test_unknown_gpus_and_nodes_are_named() -> None:
    ledger = make()
    for ask in (ledger.free_gpu, ledger.reserved_gpu):
        with pytest.raises(UnknownGpu, match="x/9"):
            ask(GpuId("x/9"))
    with pytest.raises(UnknownGpu, match="x/9"):
        ledger.reserve(A, M, GpuId("x/9"), 1)
    for ask_node in (ledger.free_host, ledger.reserved_host):
        with pytest.raises(UnknownNode, match="'x'"):
            ask_node(NodeId("x"))


def test_what_cannot_be_is_refused() -> None:
    gpu = Gpu(G0, N, 0, 100)
    with pytest.raises(UnknownNode, match="'n'"):
        Ledger([gpu], [])
    with pytest.raises(LedgerError, match="same id"):
        Ledger([gpu, gpu], [Node(N, 1)])
    with pytest.raises(LedgerError, match="negative"):
        make().reserve(A, M, G0, -1)


def test_a_copy_goes_its_own_way() -> None:
    ledger = make()
    ledger.reserve(A, M, G0, 60)
    twin = ledger.copy()
    twin.reserve(B, M, G0, 20)
    twin.release(A)
    assert ledger.reserved_gpu(G0) == 60
    assert twin.reserved_gpu(G0) == 20


def test_refusals_survive_a_trip_between_processes() -> None:
    refusal = pickle.loads(pickle.dumps(OverCapacity(A, "gpu", G0, 2 * MIB, MIB)))
    assert (refusal.needed_bytes, str(refusal)) == (2 * MIB, "replica a-1 needs 2 MiB of GPU n/0, 1 MiB are free")
    assert pickle.loads(pickle.dumps(UnknownGpu(G0))).gpu == G0


@pytest.mark.parametrize(
    ("state", "to", "now", "soon"),
    [
        (STARTING, None, (60, 0), (60, 0)),
        (READY, None, (60, 0), (60, 0)),
        (DRAINING, DEAD, (60, 0), (0, 0)),
        (DRAINING, None, (60, 0), (0, 0)),
        (DRAINING, ASLEEP, (60, 40), (5, 40)),
        (ASLEEP, None, (5, 40), (5, 40)),
        (ASLEEP, DEAD, (5, 40), (0, 0)),
        (DEAD, None, (0, 0), (0, 0)),
    ],
)
def test_each_state_holds_what_it_needs(
    state: ReplicaState, to: ReplicaState | None, now: tuple[int, int], soon: tuple[int, int]
) -> None:
    one = replica("a", "n/0", 60, state, residue=5, host=40, to=to)
    assert holds(one) == (now[0] * MIB, now[1] * MIB)
    assert will_hold(one) == (soon[0] * MIB, soon[1] * MIB)
    assert leaving(one) == (now != soon)
    ledger = Ledger.of(world({"n/0": 100}, [], [one]))
    assert (ledger.reserved_gpu(G0), ledger.reserved_host(N)) == (now[0] * MIB, now[1] * MIB)


def test_hold_follows_a_replica_through_its_life() -> None:
    ledger = make()
    seen = []
    for state, to in (
        (STARTING, None),
        (READY, None),
        (DRAINING, ASLEEP),
        (ASLEEP, None),
        (ASLEEP, DEAD),
        (DEAD, None),
    ):
        ledger.hold(replica("a", "n/0", 60, state, residue=5, host=40, to=to))
        seen.append((ledger.reserved_gpu(G0) // MIB, ledger.reserved_host(N) // MIB))
    assert seen == [(60, 0), (60, 0), (60, 40), (5, 40), (5, 40), (0, 0)]


def test_a_snapshot_over_capacity_is_a_contradiction() -> None:
    with pytest.raises(OverCapacity):
        Ledger.of(world({"n/0": 100}, [], [replica("a", "n/0", 60), replica("b", "n/0", 60)]))
    with pytest.raises(UnknownGpu):
        Ledger.of(world({"n/0": 100}, [], [replica("a", "n/7", 60)]))
    with pytest.raises(LedgerError, match="twice"):
        Ledger.of(world({"n/0": 100}, [], [replica("a", "n/0", 20), replica("a", "n/0", 20)]))


def test_gpus_and_nodes_come_and_go() -> None:
    ledger = make()
    ledger.put_node(Node(NodeId("p"), 70 * MIB))
    ledger.put_gpu(Gpu(GpuId("p/0"), NodeId("p"), 0, 300 * MIB))
    ledger.reserve(A, M, GpuId("p/0"), 250 * MIB, 60 * MIB)
    assert ledger.free_gpu(GpuId("p/0")) == 50 * MIB
    for drop in (lambda: ledger.drop_gpu(GpuId("p/0")), lambda: ledger.drop_node(NodeId("p"))):
        with pytest.raises(LedgerError, match="still has"):
            drop()
    ledger.release(A)
    ledger.drop_gpu(GpuId("p/0"))
    ledger.drop_node(NodeId("p"))
    with pytest.raises(UnknownGpu):
        ledger.free_gpu(GpuId("p/0"))
    with pytest.raises(UnknownNode):
        ledger.free_host(NodeId("p"))
    with pytest.raises(UnknownGpu):
        ledger.drop_gpu(GpuId("p/0"))
    with pytest.raises(UnknownNode):
        ledger.drop_node(NodeId("p"))


def test_what_changes_its_size_still_takes_what_is_reserved() -> None:
    ledger = make()
    ledger.reserve(A, M, G0, 60 * MIB, 30 * MIB)
    ledger.put_gpu(Gpu(G0, N, 0, 60 * MIB))
    ledger.put_node(Node(N, 30 * MIB))
    assert (ledger.free_gpu(G0), ledger.free_host(N)) == (0, 0)
    with pytest.raises(LedgerError, match="60 MiB of GPU n/0 are reserved: 59 MiB do not take them"):
        ledger.put_gpu(Gpu(G0, N, 0, 59 * MIB))
    with pytest.raises(LedgerError, match="30 MiB of node n are reserved: 29 MiB do not take them"):
        ledger.put_node(Node(N, 29 * MIB))
    assert (ledger.reserved_gpu(G0), ledger.reserved_host(N)) == (60 * MIB, 30 * MIB)
    ledger.put_gpu(Gpu(G0, N, 0, 200 * MIB))
    assert ledger.free_gpu(G0) == 140 * MIB


def test_a_gpu_needs_its_node_and_stays_on_it() -> None:
    ledger = make()
    with pytest.raises(UnknownNode, match="'p'"):
        ledger.put_gpu(Gpu(GpuId("p/0"), NodeId("p"), 0, 1))
    with pytest.raises(LedgerError, match="GPU n/0 is on node n; node o cannot have it, too"):
        ledger.put_gpu(Gpu(G0, OTHER, 0, 100 * MIB))


def test_compute_and_cores_that_are_claimed_are_not_taken_away() -> None:
    ledger = Ledger([Gpu(G0, N, 0, 100 * MIB)], [Node(N, MIB, cpu_milli=4000)])
    one = replica("a", "n/0", 60)
    ledger.hold(replace(one, footprint=replace(one.footprint, compute_milli=600, cpu_milli=3000)))
    with pytest.raises(LedgerError, match="compute_milli 500"):
        ledger.put_gpu(Gpu(G0, N, 0, 100 * MIB, compute_milli=500))
    with pytest.raises(LedgerError, match="2000 thousandths"):
        ledger.put_node(Node(N, MIB, cpu_milli=2000))
    ledger.put_gpu(Gpu(G0, N, 0, 100 * MIB, compute_milli=600))


COMINGS = st.lists(
    st.tuples(
        st.sampled_from(["put gpu", "drop gpu", "put node", "drop node", "reserve", "release"]),
        st.integers(0, 3),
        st.integers(0, 120),
        st.integers(0, 60),
    ),
    max_size=40,
)


@given(COMINGS)
def test_hardware_that_comes_and_goes_never_leaves_a_reservation_behind(
    comings: list[tuple[str, int, int, int]],
) -> None:
    ledger = Ledger((), ())
    for what, which, mib, host_mib in comings:
        before = ledger.entries()
        gpu, node = GpuId(f"n{which % 2}/{which}"), NodeId(f"n{which % 2}")
        try:
            match what:
                case "put gpu":
                    ledger.put_gpu(Gpu(gpu, node, which, mib * MIB))
                case "drop gpu":
                    ledger.drop_gpu(gpu)
                case "put node":
                    ledger.put_node(Node(node, host_mib * MIB))
                case "drop node":
                    ledger.drop_node(node)
                case "reserve":
                    ledger.reserve(ReplicaId(f"r{mib % 3}"), M, gpu, mib * MIB, host_mib * MIB)
                case _:
                    ledger.release(ReplicaId(f"r{mib % 3}"))
        except LedgerError:
            assert ledger.entries() == before, "a refusal changes nothing"
        for entry in ledger.entries():
            assert ledger.free_gpu(entry.gpu) >= 0
            assert ledger.free_host(entry.node) >= 0
            assert ledger.reserved_gpu(entry.gpu) == sum(
                each.gpu_bytes for each in ledger.entries() if each.gpu == entry.gpu
            )


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "d"]),
        st.sampled_from([G0, G1, H0]),
        st.one_of(st.none(), st.integers(0, 250 * MIB)),
        st.integers(0, 60 * MIB),
    ),
    max_size=40,
)


@given(OPERATIONS)
def test_no_sequence_of_operations_ever_goes_over_capacity(
    operations: list[tuple[str, GpuId, int | None, int]],
) -> None:
    ledger = make()
    expected: dict[str, tuple[GpuId, int, int]] = {}
    for name, gpu, gpu_bytes, host_bytes in operations:
        before = ledger.entries()
        if gpu_bytes is None:
            assert (ledger.release(ReplicaId(name)) is not None) == (name in expected)
            expected.pop(name, None)
        else:
            trial = ledger.copy()
            trial.release(ReplicaId(name))
            fits = gpu_bytes <= trial.free_gpu(gpu) and host_bytes <= trial.free_host(NodeId(gpu[0]))
            if fits:
                ledger.reserve(ReplicaId(name), M, gpu, gpu_bytes, host_bytes)
                expected[name] = (gpu, gpu_bytes, host_bytes)
            else:
                with pytest.raises(OverCapacity) as refused:
                    ledger.reserve(ReplicaId(name), M, gpu, gpu_bytes, host_bytes)
                assert refused.value.needed_bytes > refused.value.free_bytes >= 0
                assert ledger.entries() == before
        assert {e.replica: (e.gpu, e.gpu_bytes, e.host_bytes) for e in ledger.entries()} == expected
        for place in (G0, G1, H0):
            assert ledger.free_gpu(place) >= 0
            assert ledger.reserved_gpu(place) == sum(e.gpu_bytes for e in ledger.entries() if e.gpu == place)
        for node in (N, OTHER):
            assert ledger.free_host(node) >= 0
            assert ledger.reserved_host(node) == sum(e.host_bytes for e in ledger.entries() if e.node == node)
