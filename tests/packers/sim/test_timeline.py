from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from packers.sim.result import MemoryPoint
from packers.sim.timeline import Timeline
from packers.types import GpuId, ModelId, ReplicaId, ReplicaState


def point(at_s: float, replica: str, gpu_bytes: int) -> MemoryPoint:
    state = ReplicaState.READY if gpu_bytes else ReplicaState.DEAD
    return MemoryPoint(at_s, GpuId("n/0"), ReplicaId(replica), ModelId(replica), state, gpu_bytes)


def test_few_points_stay_as_they_are() -> None:
    timeline = Timeline(10)
    given_points = [point(1, "a", 5), point(2, "b", 3), point(2, "a", 0)]
    for one in given_points:
        timeline.add(one)
    assert timeline.points() == tuple(given_points)


def test_who_comes_and_goes_within_a_step_is_left_out() -> None:
    timeline = Timeline(4)
    for second in range(100):
        timeline.add(point(second, "long", 5 + second // 50))
        timeline.add(point(second, f"short-{second}", 1))
        timeline.add(point(second + 0.001, f"short-{second}", 0))
    assert {one.replica for one in timeline.points()} == {"long"}


@given(
    st.lists(st.tuples(st.floats(0, 1000), st.sampled_from("abc"), st.integers(0, 3)), max_size=300),
    st.integers(1, 40),
)
def test_never_too_many_and_the_last_word_is_kept(changes: list[tuple[float, str, int]], limit: int) -> None:
    timeline = Timeline(limit)
    last: dict[str, int] = {}
    for at_s, replica, gpu_bytes in sorted(changes, key=lambda one: one[0]):
        timeline.add(point(at_s, replica, gpu_bytes))
        last[replica] = gpu_bytes
    found = timeline.points()
    assert len(found) <= limit
    assert [one.at_s for one in found] == sorted(one.at_s for one in found)
    if limit >= 6:  # enough for all three
        end = {one.replica: one.gpu_bytes for one in found}
        assert {name: held for name, held in end.items() if held} == {name: held for name, held in last.items() if held}
