"""What workers send to the master arrives whole, whatever it is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loadtests.generator.collected import Collected, pack, unpack
from loadtests.generator.worker import Batch
from loadtests.outcome.health import Second, WorkerHealth
from tests.loadtests.outcome.made import row

shares = st.floats(0, 4, allow_nan=False)
counts = st.integers(0, 10**9)
seconds = st.builds(Second, shares, counts, shares, shares, counts, counts, counts, shares, shares)
errors = st.sampled_from(["", "timeout", "engine_died"])
rows = st.builds(
    lambda at_ms, ttft_ms, error, name: row(at_ms, ttft_ms=ttft_ms, error=error, model=name, timing_ms={"auth": 0.25}),
    st.integers(0, 10**6).map(float), st.none() | st.integers(0, 10**5).map(float), errors, st.text(max_size=9),
)  # fmt: skip
healths = st.builds(
    WorkerHealth, worker=counts, planned=counts, sent=counts, read_counts=st.lists(counts, max_size=9), cpu_s=shares
)


@given(st.lists(rows, max_size=5), st.lists(seconds, max_size=5), st.none() | healths, st.booleans())
def test_a_parcel_is_unpacked_as_it_was_packed(
    found: list[object], looks: list[Second], health: WorkerHealth | None, done: bool
) -> None:
    batch = Batch(found, looks, health, done)  # type: ignore[arg-type]
    again = unpack(pack(batch))
    assert (again.rows, again.seconds, again.health, again.done) == (found, looks, health, done)


def test_the_run_is_over_for_those_who_said_so() -> None:
    collected = Collected()
    collected.take(Batch(rows=[row()], health=WorkerHealth(0, sent=1)))
    collected.take(Batch(health=WorkerHealth(1, sent=5), done=True))
    collected.take(Batch(rows=[row()], health=WorkerHealth(0, sent=2)))
    assert collected.done == {1}
    assert collected.workers[0].sent == 2
    collected.take(Batch(health=WorkerHealth(0, sent=2), done=True))
    assert collected.done == {0, 1}
    assert len(collected.rows) == 2


def test_who_is_not_known_cannot_be_done() -> None:
    collected = Collected()
    collected.take(Batch(done=True))
    assert collected.done == set()
