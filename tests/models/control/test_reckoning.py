"""Times of models that were never started, by those that were."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from models.control.reckoning import MUCH_LARGER, reckoned
from packers.types import DEFAULT_START, Footprint, Model, ModelId, StartTimes

MIB = 1 << 20


def model(name: str, mib: int, startup: StartTimes = DEFAULT_START) -> Model:
    return Model(ModelId(name), Footprint(mib * MIB, 0, 0), startup=startup)


def test_a_fixed_time_and_a_bandwidth_are_read_off_what_was_measured() -> None:
    small, large = model("s", 100, StartTimes(0.2, 0.05)), model("l", 300, StartTimes(0.4, 0.07))
    (_, _, between) = reckoned((small, large, model("m", 200)))
    assert round(between.startup.disk_s, 6) == 0.3
    assert round(between.startup.host_s, 6) == 0.06


def test_each_time_is_reckoned_by_itself() -> None:
    started = model("a", 100, replace(DEFAULT_START, disk_s=0.2))
    (first, second) = reckoned((started, model("b", 100)))
    assert first == started, "what was measured stays"
    assert second.startup == StartTimes(disk_s=0.2, host_s=DEFAULT_START.host_s)


def test_nothing_is_known_of_much_larger_ones() -> None:
    small = model("s", 10, StartTimes(0.2, 0.1))
    asked = [model("most", 10 * MUCH_LARGER), model("more", 10 * MUCH_LARGER + 1)]
    (_, most, more) = reckoned((small, *asked))
    assert (most.startup, more.startup) == (StartTimes(0.2, 0.1), DEFAULT_START)


@given(st.lists(st.tuples(st.integers(1, 500), st.one_of(st.none(), st.floats(0.01, 100))), max_size=8))
def test_only_assumed_times_change(given_models: list[tuple[int, float | None]]) -> None:
    models = [
        model(f"m{number}", mib, DEFAULT_START if took_s is None else StartTimes(took_s, took_s))
        for number, (mib, took_s) in enumerate(given_models)
    ]
    told = reckoned(models)
    assert [each.id for each in told] == [each.id for each in models]
    for before, after in zip(models, told, strict=True):
        assert replace(after, startup=before.startup) == before
        assert after.startup.disk_s >= 0
        measured, now, assumed = before.startup, after.startup, DEFAULT_START
        assert now.disk_s == measured.disk_s or measured.disk_s == assumed.disk_s
        assert now.host_s == measured.host_s or measured.host_s == assumed.host_s
