from __future__ import annotations

import dataclasses
import math
import pickle

import numpy as np
import pytest

from packers.sim import Trace, TraceError
from packers.sim.trace import DAY_S, merge


def small() -> Trace:
    return Trace.of(["a", "b"], [30.0, 10.0, 20.0], [0, 1, 0], [3, 1, 2], [300, 100, 200], [30, 10, 20])


def test_requests_are_sorted_by_time_with_all_that_belongs_to_them() -> None:
    trace = small()
    assert trace.at_s.tolist() == [10, 20, 30]
    assert trace.model.tolist() == [1, 0, 0]
    assert trace.service_s.tolist() == [1, 2, 3]
    assert trace.input_tokens.tolist() == [100, 200, 300]
    assert trace.output_tokens.tolist() == [10, 20, 30]
    assert (len(trace), trace.duration_s, trace.rate_per_s) == (3, 30, 0.1)
    assert trace.counts() == {"a": 2, "b": 1}


def test_what_comes_at_the_same_time_keeps_its_order() -> None:
    assert Trace.of("ab", [1, 1, 1], [1, 0, 1]).model.tolist() == [1, 0, 1]


def test_columns_that_are_not_given_are_zero() -> None:
    trace = Trace.of(["a"], [1.0], [0])
    assert (trace.service_s[0], trace.input_tokens[0], trace.output_tokens[0]) == (0, 0, 0)


def test_it_cannot_be_changed_and_does_not_share_what_can() -> None:
    at_s = np.array([1.0, 2.0])
    trace = Trace.of(["a"], at_s, [0, 0])
    with pytest.raises(ValueError, match="read-only"):
        trace.at_s[0] = 5
    with pytest.raises(dataclasses.FrozenInstanceError):
        trace.names = ()  # type: ignore[misc]
    at_s[0] = 1.5
    assert trace.at_s[0] == 1


def test_it_goes_to_another_process() -> None:
    again = pickle.loads(pickle.dumps(small()))
    assert again.at_s.tolist() == small().at_s.tolist()
    assert again.names == small().names


def test_clipping_counts_from_the_new_beginning() -> None:
    part = small().clip(15, 30)
    assert part.at_s.tolist() == [5]
    assert part.service_s.tolist() == [2]
    assert part.names == ("a", "b")
    dated = dataclasses.replace(small(), start_unix_s=1000.0).clip(15, 30)
    assert dated.start_unix_s == 1015


def test_days_and_hours() -> None:
    trace = Trace.of(["a"], [0, DAY_S - 1, DAY_S, 2 * DAY_S, 3 * DAY_S], [0] * 5)
    assert trace.days(0).at_s.tolist() == [0, DAY_S - 1]
    assert trace.days(1, 2).at_s.tolist() == [0, DAY_S]
    assert trace.hours(23).at_s.tolist() == [3599]


def test_scaling_changes_the_rate_and_not_the_work() -> None:
    fast = small().scale(2)
    assert fast.at_s.tolist() == [5, 10, 15]
    assert fast.service_s.tolist() == [1, 2, 3]
    assert small().to_rate(1.0).rate_per_s == pytest.approx(1.0)


@pytest.mark.parametrize("factor", [0, -1, math.nan, math.inf])
def test_scaling_by_nonsense_is_refused(factor: float) -> None:
    with pytest.raises(TraceError, match="above 0"):
        small().scale(factor)


def test_only_some_models() -> None:
    part = small().only(["b"])
    assert (part.names, part.at_s.tolist(), part.model.tolist()) == (("b",), [10], [0])
    turned = small().only(["b", "a"])
    assert turned.model.tolist() == [0, 1, 1]
    with pytest.raises(TraceError, match="no model 'c'"):
        small().only(["c"])


def test_the_busiest_come_first() -> None:
    assert small().busiest(2) == ("a", "b")
    assert Trace.of(["b", "a"], [1, 2], [0, 1]).busiest(1) == ("a",)


def test_merging_joins_models_of_one_name() -> None:
    both = merge([small(), Trace.of(["c", "a"], [15.0, 25.0], [0, 1])])
    assert both.names == ("a", "b", "c")
    assert both.at_s.tolist() == [10, 15, 20, 25, 30]
    assert [both.names[index] for index in both.model] == ["b", "c", "a", "a", "a"]
    with pytest.raises(TraceError, match="no trace"):
        merge([])


def blocked() -> Trace:
    """The requests of the middle model come last."""
    return Trace.of("ab", [30.0, 10.0, 20.0, 15.0], [0, 1, 0, 1], blocks=[(3,), (1, 2), (), (1,)])


def test_blocks_stay_with_their_requests() -> None:
    trace = blocked()
    assert trace.blocks == ((1, 2), (1,), (), (3,))
    assert trace.clip(12.0, 25.0).blocks == ((1,), ())
    assert trace.scale(2.0).blocks == trace.to_rate(7.0).blocks == trace.blocks
    assert trace.only(["a"]).blocks == ((), (3,))
    assert small().blocks == small().only(["b"]).blocks == small().clip(0, 15).blocks == ()


def test_blocks_of_several_traces_say_nothing_of_each_other() -> None:
    assert merge([blocked(), blocked()]).blocks == ()


@pytest.mark.parametrize(
    ("columns", "field"),
    [
        ({"at_s": [1.0, math.nan]}, "at_s"),
        ({"at_s": [1.0, math.inf]}, "at_s"),
        ({"at_s": [-1.0, 2.0]}, "at_s"),
        ({"at_s": [1.0]}, "model"),
        ({"model": [0, 1]}, "model"),
        ({"model": [0, -1]}, "model"),
        ({"service_s": [1.0, -1.0]}, "service_s"),
        ({"service_s": [1.0, math.nan]}, "service_s"),
        ({"input_tokens": [1]}, "input_tokens"),
        ({"output_tokens": [1, -5]}, "output_tokens"),
        ({"names": ["a", "a"]}, "names"),
        ({"blocks": [(1,)]}, "blocks"),
    ],
)
def test_errors_name_the_field(columns: dict[str, list[float]], field: str) -> None:
    given: dict[str, object] = {"names": ["a"], "at_s": [1.0, 2.0], "model": [0, 0]}
    with pytest.raises(TraceError) as error:
        Trace.of(**(given | columns))  # type: ignore[arg-type]
    assert error.value.field == field
    assert repr(field) in str(error.value)


def test_an_error_names_file_line_and_field() -> None:
    error = TraceError("is missing", name="x.csv", line=7, field="time")
    assert str(error) == "x.csv:7: field 'time': is missing"
