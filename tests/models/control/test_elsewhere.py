"""A start that fails is tried elsewhere before its callers are told; then all of them are."""

from __future__ import annotations

import pytest

from models.control.failures import AVOID_S, TOLD_AFTER_S, FailureBook
from models.fleet.protocol import StartFailed
from models.runtimes.protocol import EngineOrder, EngineStatus
from packers.types import Gpu, GpuId, ModelId, NodeId
from tests.models.control.cluster import Cluster, node
from tests.models.control.scene import card

pytestmark = pytest.mark.anyio
M = ModelId("m")


class Broken:
    """Starts on these GPUs fail."""

    def __init__(self, cluster: Cluster, *gpus: str, fault: str = "other") -> None:
        self.tried: list[str] = []
        self.gpus = set(gpus)
        start = cluster.fleet.start

        async def breaks(node: NodeId, order: EngineOrder) -> EngineStatus:
            tracked = next(one for one in cluster.controller.world.replicas.values() if one.id == order.replica_id)
            self.tried.append(tracked.gpu)
            if tracked.gpu in self.gpus:
                raise StartFailed(f"{tracked.gpu} has a bad day", fault)  # type: ignore[arg-type]
            return await start(node, order)

        cluster.fleet.start = breaks  # type: ignore[method-assign]


async def test_callers_wait_for_the_second_attempt_and_are_served_by_it() -> None:
    cluster = Cluster([card("m", 60)], [node("a", 100, 100)])
    broken = Broken(cluster, "a/gpu-0")
    cluster.hold("m")
    await cluster.run(0.5)
    assert cluster.route("m").failure is None, "there is another place to try"
    shown = cluster.model("m").failure
    assert shown is not None, "operators see it at once"
    assert shown.message == "a/gpu-0 has a bad day"
    await cluster.run(2.5)
    assert "m" not in cluster.held
    assert cluster.served("m")
    assert broken.tried == ["a/gpu-0", "a/gpu-1"]
    assert cluster.model("m").failure is None


async def test_when_that_fails_too_all_who_wait_hear_why() -> None:
    cluster = Cluster([card("m", 60)], [node("a", 100, 100)])
    broken = Broken(cluster, "a/gpu-0", "a/gpu-1")
    cluster.hold("m")
    await cluster.run(2)
    assert broken.tried == ["a/gpu-0", "a/gpu-1"]
    failure = cluster.route("m").failure
    assert failure is not None
    assert (failure.message, failure.attempts) == ("a/gpu-1 has a bad day", 2)
    assert "m" not in cluster.held


async def test_where_nothing_else_is_left_to_try_they_hear_at_once() -> None:
    cluster = Cluster([card("m", 60)], [node("a", 100, 40)])
    Broken(cluster, "a/gpu-0")
    cluster.hold("m")
    await cluster.run(0.2)
    failure = cluster.route("m").failure
    assert failure is not None
    assert failure.message == "a/gpu-0 has a bad day"


async def test_they_hear_in_time_when_the_other_place_does_not_become_free() -> None:
    cluster = Cluster([card("m", 80), card("o", 80, min_replicas=1, priority=5)], [node("a", 100, 100)])
    await cluster.run(2)
    cluster.busy = {"o-1": 1}
    Broken(cluster, "a/gpu-1")
    cluster.hold("m")
    for _ in range(40):
        await cluster.run(0.25, step_s=0.05)
        if "m" not in cluster.held:
            break
    assert "m" not in cluster.held
    assert cluster.clock() < 1_000_000 + 2 + 1 + TOLD_AFTER_S + 3
    assert cluster.route("m").failure is not None


async def test_another_node_is_tried_when_two_gpus_of_one_have_failed() -> None:
    cluster = Cluster([card("m", 60)], [node("a", 100, 100, 100), node("b", 200)])
    broken = Broken(cluster, "a/gpu-0", "a/gpu-1", "a/gpu-2")
    for _ in range(2):
        cluster.hold("m")
        await cluster.run(4, step_s=0.05)
    assert broken.tried == ["a/gpu-0", "a/gpu-1", "b/gpu-0"]


async def test_weights_that_cannot_be_read_on_a_node_are_tried_on_another_node() -> None:
    cluster = Cluster([card("m", 60)], [node("a", 100, 100), node("b", 200)])
    broken = Broken(cluster, "a/gpu-0", "a/gpu-1")
    cluster.broken_sources["m"] = "the folder does not exist"
    cluster.hold("m")
    await cluster.run(0.5)
    assert cluster.route("m").failure is None
    cluster.broken_sources.clear()
    await cluster.run(2.5)
    assert broken.tried == ["b/gpu-0"]
    assert "m" not in cluster.held


async def test_an_operator_who_waits_hears_of_the_second_attempt() -> None:
    cluster = Cluster([card("m", 60)], [node("a", 100, 100)])
    Broken(cluster, "a/gpu-0")
    command = cluster.order("wake", "m")
    await cluster.run(0.5)
    assert cluster.reply(command) is None
    await cluster.run(3)
    reply = cluster.reply(command)
    assert reply is not None
    assert (reply.ok, reply.message) == (True, "m is ready")


async def test_it_goes_where_it_failed_when_nothing_else_will_do() -> None:
    cluster = Cluster([card("m", 60)], [node("a")])
    broken = Broken(cluster, "a/gpu-0")
    cluster.hold("m")
    await cluster.run(1.2)
    broken.gpus.clear()
    cluster.hold("m")
    await cluster.run(2.5)
    assert broken.tried == ["a/gpu-0", "a/gpu-0"]
    assert cluster.served("m")


@pytest.fixture
def gpus() -> tuple[Gpu, ...]:
    return tuple(Gpu(GpuId(f"{name}/{place}"), NodeId(name), place, 100) for name in ("a", "b") for place in range(3))


def test_a_place_is_avoided_for_a_while(gpus: tuple[Gpu, ...]) -> None:
    book = FailureBook()
    assert book.avoided(M, gpus, 0.0) == ()
    book.failed_on(M, gpus[0], 100.0, "other")
    assert book.avoided(M, gpus, 101.0) == ("a/0",)
    assert book.avoided(ModelId("o"), gpus, 101.0) == ()
    assert book.avoided(M, gpus, 100.0 + AVOID_S) == ()
    book.failed_on(M, gpus[1], 200.0, "other")
    assert book.avoided(M, gpus, 201.0) == ("a/0", "a/1", "a/2"), "two of them: it is the node"
    assert book.avoided(M, gpus, 100.0 + AVOID_S) == ("a/1",)


def test_a_place_where_it_served_is_avoided_no_more(gpus: tuple[Gpu, ...]) -> None:
    book = FailureBook()
    book.failed_on(M, gpus[0], 100.0, "hang")
    book.failed(M, "no", 100.0, elsewhere=True)
    assert book.told(M) is None
    assert book.get(M) is not None
    book.served(M, GpuId("b/0"))
    assert book.avoided(M, gpus, 101.0) == ("a/0",)
    assert book.get(M) is None
    book.served(M, GpuId("a/0"))
    assert book.avoided(M, gpus, 101.0) == ()


def test_weights_are_of_the_whole_node(gpus: tuple[Gpu, ...]) -> None:
    book = FailureBook()
    book.failed_on(M, gpus[4], 100.0, "weights")
    assert book.avoided(M, gpus, 101.0) == ("b/0", "b/1", "b/2")
    book.forget(M)
    assert book.avoided(M, gpus, 101.0) == ()


def test_what_was_not_told_is_told_when_nothing_is_tried(gpus: tuple[Gpu, ...]) -> None:
    book = FailureBook()
    failure = book.failed(M, "no", 100.0, elsewhere=True)
    due_s = failure.retry_at_unix_s + TOLD_AFTER_S
    assert book.tell(due_s - 0.1, lambda model: False) == set()
    assert book.tell(due_s, lambda model: True) == set()
    assert book.tell(due_s, lambda model: False) == {M}
    assert book.told(M) == failure
    assert book.tell(due_s, lambda model: False) == set()


def test_a_failure_that_only_other_files_help_is_told_at_once() -> None:
    book = FailureBook()
    book.failed(M, "damaged", 100.0, fault="weights", content="as it was", elsewhere=True)
    assert book.told(M) is not None


def test_no_room_is_no_reason_any_more_when_room_has_come() -> None:
    book = FailureBook()
    book.refused(M, "too large", 100.0)
    assert book.told(M) is not None
    book.room_came()
    assert book.told(M) is None
