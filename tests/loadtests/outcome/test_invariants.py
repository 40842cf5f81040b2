"""What holds of the figures of any run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.client.reading import Lateness
from loadtests.figures import percentile
from loadtests.load.plan import following
from loadtests.outcome.health import Second, WorkerHealth, busiest, report
from loadtests.outcome.knee import knee
from loadtests.outcome.rows import Row
from loadtests.outcome.slo import Good, Slo, is_good, judge, kept
from loadtests.outcome.summary import describe, group, summary
from tests.loadtests.outcome.made import row

times = st.integers(1, 20_000).map(float)
rows_of_any_kind = st.lists(
    st.builds(
        lambda ttft, after, gaps, error, phase, model: row(
            ttft_ms=ttft, e2e_ms=ttft + sum(gaps) + after, gaps_ms=tuple(gaps), error=error, phase=phase, model=model
        ),
        times, times, st.lists(times, max_size=6), st.sampled_from(["", "", "", "timeout", "overloaded"]),
        st.integers(0, 1), st.sampled_from(["a", "b"]),
    ),
    max_size=25,
)  # fmt: skip
limits = st.none() | times


@given(rows_of_any_kind, st.floats(0.5, 100), limits, limits, limits)
def test_every_request_is_answered_or_failed_and_only_answers_are_good(
    rows: list[Row], lasted_s: float, ttft: float | None, gap: float | None, e2e: float | None
) -> None:
    good = Good(ttft_ms=ttft, gap_p99_ms=gap, e2e_ms=e2e)
    found = group(rows, lasted_s, good)
    assert found["answered"] + found["failed"] == found["requests"] == len(rows)
    assert sum(error["count"] for error in found["errors"]) == found["failed"]
    goods = sum(is_good(one, good) for one in rows)
    assert goods <= found["answered"]
    assert found["goodput_per_s"] <= found["requests_per_s"] + 1e-3
    assert found["gap_ms"]["count"] == sum(len(one.gaps_us) for one in rows if not one.error)


@given(rows_of_any_kind)
def test_stricter_limits_are_kept_by_fewer(rows: list[Row]) -> None:
    shares = [group(rows, 1.0, Good(ttft_ms=limit))["goodput_per_s"] for limit in (20_000, 5_000, 100, 1)]
    assert shares == sorted(shares, reverse=True)


@given(rows_of_any_kind)
def test_parts_add_up_to_the_whole(rows: list[Row]) -> None:
    found = summary(rows, following(("first", 5.0, 1.0), ("second", 5.0, 1.0)), 10.0, Good())
    for parts in (found["phases"], found["models"].values(), found["dialects"].values()):
        assert sum(part["requests"] for part in parts) == len(rows)
        assert sum(part["failed"] for part in parts) == found["failed"]
        assert sum(part["ttft_ms"]["count"] for part in parts) == found["ttft_ms"]["count"]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60))
def test_percentiles_are_samples_in_order(samples: list[float]) -> None:
    found = describe(samples)
    shown = [found[name] for name in ("min", "p50", "p90", "p95", "p99", "max")]
    assert shown == sorted(shown)
    assert all(value in {round(sample, 3) for sample in samples} for value in shown)
    assert found["min"] - 1e-3 <= found["mean"] <= found["max"] + 1e-3


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60), st.integers(1, 100))
def test_so_many_are_at_most_a_percentile(samples: list[float], percent: int) -> None:
    ordered = sorted(samples)
    value = percentile(ordered, percent)
    assert sum(sample <= value for sample in ordered) >= percent / 100 * len(ordered)
    assert sum(sample < value for sample in ordered) < percent / 100 * len(ordered) + 1e-9


@given(rows_of_any_kind, times, times)
def test_goals_are_kept_up_to_their_limit_and_not_beyond(rows: list[Row], first: float, second: float) -> None:
    figures = summary(rows, following(("all", 10.0, 1.0)), 10.0, Good())
    loose, strict = (
        Slo(ttft_ms={"p99": limit}, failed_share=1.0) for limit in (max(first, second), min(first, second))
    )
    if kept(judge(strict, figures)):
        assert kept(judge(loose, figures))
    exact = figures["ttft_ms"].get("p99")
    if exact is not None:
        assert kept(judge(Slo(ttft_ms={"p99": exact}, failed_share=1.0), figures))
    else:
        assert not kept(judge(loose, figures)), "what was not measured keeps no goal"


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1)), min_size=1, max_size=40))
def test_a_worker_is_never_busier_than_in_its_busiest_second(looks: list[tuple[int, float]]) -> None:
    seconds = [Second(float(at), worker, share, 0.0, 0, 0, 0, 0.0, 0.0) for at, (worker, share) in enumerate(looks)]
    shares = [share for _, share in looks]
    assert min(shares) - 1e-9 <= busiest(seconds) <= max(shares) + 1e-9


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_a_run_is_whole_when_what_was_planned_was_sent_and_has_its_end(planned: int, unsent: int, ended: int) -> None:
    sent = max(0, planned - unsent)
    found = report([WorkerHealth(0, planned=planned, sent=sent)], [], [row()] * min(ended, sent))
    assert found["valid"] == (planned == sent <= ended)
    assert len(found["reasons"]) == (planned > sent) + (sent > ended)


workers = st.builds(
    lambda late_s, busy, sent: (late_s, busy, sent),
    st.lists(st.floats(1e-6, 10), min_size=1, max_size=40), st.lists(st.floats(0, 1), min_size=1, max_size=9),
    st.integers(0, 1000),
)  # fmt: skip


@given(st.lists(workers, min_size=1, max_size=5))
def test_workers_add_up_in_whatever_order_they_tell(told: list[tuple[list[float], list[float], int]]) -> None:
    healths, seconds, every = [], [], Lateness()
    for number, (late_s, busy, sent) in enumerate(told):
        own = Lateness()
        for value in late_s:
            own.add(value)
            every.add(value)
        healths.append(
            WorkerHealth(number, planned=sent, sent=sent, reads=own.count, read_counts=own.counts(),
                         read_worst_s=own.worst_s, open_most=sent)
        )  # fmt: skip
        seconds += [Second(float(at), number, share, 0.0, 0, 0, 0, 0.0, 0.0) for at, share in enumerate(busy)]
    found, again = report(healths, seconds, []), report(healths[::-1], seconds[::-1], [])
    alone = [report([health], [], []) for health in healths]
    for name in ("planned", "sent", "most_open"):
        assert found[name] == again[name] == sum(each[name] for each in alone)
    assert found["read_late_ms"] == again["read_late_ms"]
    assert found["read_late_ms"]["p99"] == round(every.percentile_s(99) * 1e3, 3), "as if one had read it all"
    assert found["read_late_ms"]["max"] == max(each["read_late_ms"]["max"] for each in alone)
    assert found["busiest_share"] == again["busiest_share"] == max(
        round(busiest([second for second in seconds if second.worker == number]), 3) for number in range(len(told))
    )  # fmt: skip


@given(rows_of_any_kind, st.lists(st.floats(0.1, 20), min_size=1, max_size=4))
def test_what_came_in_each_part_came_in_the_whole_and_nothing_comes_after_its_end(
    rows: list[Row], parts_s: list[float]
) -> None:
    phases = following(*((str(place), lasts_s, 1.0) for place, lasts_s in enumerate(parts_s)))
    until_s = phases[-1].until_s
    found = summary(rows, phases, until_s, Good())
    for name in ("requests_per_s", "output_tokens_per_s", "input_tokens_per_s", "goodput_per_s"):
        parts = sum(part[name] * phase_s for part, phase_s in zip(found["phases"], parts_s, strict=True))
        assert parts == pytest.approx(found[name] * until_s, abs=1e-3 * until_s + 1e-6)
    in_time = sum(not one.error and one.end_us <= until_s * 1e6 for one in rows)
    assert found["requests_per_s"] * until_s == pytest.approx(in_time, abs=1e-3 * until_s)
    assert found["goodput_per_s"] <= found["requests_per_s"]
    written = sum(one.output_tokens or 0 for one in rows)
    assert found["output_tokens_per_s"] * until_s <= written + 1e-3 * until_s


@given(rows_of_any_kind, st.integers(1, 4), st.floats(0.5, 30))
def test_runs_alike_together_answer_as_much_a_second_as_each(rows: list[Row], runs: int, lasted_s: float) -> None:
    phases = following(("first", lasted_s / 2, 1.0), ("second", lasted_s / 2, 1.0))
    one, many = summary(rows, phases, lasted_s, Good()), summary(rows * runs, phases, lasted_s, Good(), runs)
    for name in ("requests_per_s", "output_tokens_per_s", "goodput_per_s"):
        assert many[name] == one[name]
        assert [part[name] for part in many["phases"]] == [part[name] for part in one["phases"]]


def test_a_ramp_that_was_easy_has_no_knee_beyond_its_last_step() -> None:
    phases = following(("1/s", 5.0, 1.0), ("2/s", 5.0, 2.0))
    rows = [row(1000.0 * at, phase=int(at >= 5)) for at in range(10)]
    found = knee(summary(rows, phases, 10.0, Good())["phases"], None)
    assert found == {
        "step": "2/s", "requests_per_s": 1.0, "next_step": None, "because": "the ramp ended before a knee"
    }  # fmt: skip
