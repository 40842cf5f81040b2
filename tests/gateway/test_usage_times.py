"""Spans of the books, as people and programs write them."""

from __future__ import annotations

import pytest

from gateway.errors import InvalidRequest
from gateway.usage_times import DAY_S, listed, moment, span

NOW = 1_795_000_123.5  # 2026-11-18T10:28:43.5Z


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("now", NOW),
        ("30m", NOW - 1_800),
        ("24h", NOW - DAY_S),
        ("7d", NOW - 7 * DAY_S),
        ("2w", NOW - 14 * DAY_S),
        ("2026-11-01", 1_793_491_200.0),
        (" 2026-11-01T08:00Z ", 1_793_520_000.0),
        ("2026-11-01T08:00+02:00", 1_793_512_800.0),
        ("1793491200", 1_793_491_200.0),
        ("999999w", 0.0),
    ],
)
def test_a_moment(text: str, at: float) -> None:
    assert moment(text, NOW, "since") == at


@pytest.mark.parametrize(
    "text", ["", "yesterday", "7", "7y", "-7d", "2026-13-01", "1e9", "٧d", "0x7d", "17934912000000"]
)
def test_what_is_none_is_refused_with_what_may_be_written(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"until: .*7d.*2026-11-01.*Unix seconds") as refused:
        moment(text, NOW, "until")
    assert refused.value.param == "until"


def test_a_span_ends_now_unless_it_is_said_when() -> None:
    assert span("1h", None, NOW) == (NOW - 3600, NOW)
    assert span("2026-11-01", "2026-11-02", NOW) == (1_793_491_200.0, 1_793_577_600.0)


@pytest.mark.parametrize(("since", "until"), [("1h", "2h"), ("now", None), ("2027-01-01", None), ("1h", "1h")])
def test_a_span_without_length_is_refused(since: str, until: str | None) -> None:
    with pytest.raises(InvalidRequest, match="since must lie before until"):
        span(since, until, NOW)


def test_a_list_of_names() -> None:
    known = ("tenant", "model")
    assert listed("model, tenant,model,", known, "by") == ("model", "tenant")
    assert listed("", known, "by") == ()
    with pytest.raises(InvalidRequest, match="'user' is not one of tenant, model"):
        listed("tenant,user", known, "by")
