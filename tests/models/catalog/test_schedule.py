"""Hours in which models are kept warm: what may be written, and which moments it means, also when clocks change."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from models.catalog.card import ModelCard
from models.catalog.config import ConfigError, load_config
from models.catalog.errors import WrongValue
from models.catalog.schedule import DAYS, Hours, Span, format_minutes, parse_days, spans, zone

DAY_S = 86_400.0


def hours(begin: str, to: str, days: object = "daily", timezone: str = "UTC", replicas: int = 1) -> Hours:
    return Hours.model_validate(
        {"from": begin, "to": to, "days": days, "timezone": timezone, "replicas": replicas}
    )  # fmt: skip


def unix(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def shown(found: tuple[Span, ...]) -> list[tuple[str, str]]:
    def utc(at_s: float) -> str:
        return f"{datetime.fromtimestamp(at_s, UTC):%a %d %H:%M}"

    return [(utc(span.begin_s), utc(span.end_s)) for span in found]


def test_working_hours_of_a_week() -> None:
    # 2026-11-20 is a Friday; Berlin is an hour ahead of UTC then.
    found = spans([hours("08:00", "18:00", "mon-fri", "Europe/Berlin")], unix("2026-11-20 12:00"), 4 * DAY_S)
    assert shown(found) == [("Fri 20 07:00", "Fri 20 17:00"), ("Mon 23 07:00", "Mon 23 17:00"), ("Tue 24 07:00", "Tue 24 17:00")]  # fmt: skip  # noqa: E501


def test_what_is_over_is_not_said_and_what_goes_on_is() -> None:
    lunch = hours("12:00", "13:00")
    assert shown(spans([lunch], unix("2026-11-20 12:59:59"), 0)) == [("Fri 20 12:00", "Fri 20 13:00")]
    assert shown(spans([lunch], unix("2026-11-20 13:00"), 0)) == []


def test_a_night_is_of_the_day_on_which_it_begins() -> None:
    night = hours("22:00", "06:00", "fri")
    assert shown(spans([night], unix("2026-11-21 03:00"), DAY_S)) == [("Fri 20 22:00", "Sat 21 06:00")]
    assert shown(spans([night], unix("2026-11-21 07:00"), DAY_S)) == []


def test_a_whole_day_and_the_end_of_one() -> None:
    day = hours("00:00", "24:00", "sat")
    assert shown(spans([day], unix("2026-11-20 12:00"), DAY_S)) == [("Sat 21 00:00", "Sun 22 00:00")]


def test_when_clocks_change_a_span_is_rather_longer_than_shorter() -> None:
    # On 2026-03-29 Berlin has no 02:30, on 2026-10-25 it has two.
    early = hours("02:30", "04:00", timezone="Europe/Berlin")
    (spring,) = spans([early], unix("2026-03-29 00:00"), 3600)
    assert shown((spring,)) == [("Sun 29 00:30", "Sun 29 02:00")]
    late = hours("01:00", "02:30", timezone="Europe/Berlin")
    (autumn,) = spans([late], unix("2026-10-25 00:00"), 0)
    assert shown((autumn,)) == [("Sat 24 23:00", "Sun 25 01:30")], "until the second 02:30"
    noon = hours("12:00", "13:00", timezone="Europe/Berlin")
    both = spans([noon], unix("2026-10-24 00:00"), 2 * DAY_S)
    assert [span.begin_s for span in both][1] - both[0].begin_s == 25 * 3600, "noon stays noon"


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(
        ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "Australia/Lord_Howe"]
    ),
    st.integers(0, 1439),
    st.integers(0, 1440),
    st.sets(st.sampled_from(DAYS), min_size=1),
    st.integers(1_600_000_000, 1_900_000_000),
)
def test_every_span_begins_on_its_day_and_time(name: str, begin: int, to: int, days: set[str], now: int) -> None:
    if begin == to:
        return
    mine = hours(format_minutes(begin), format_minutes(to), sorted(days), name)
    there = zone(name)
    found = spans([mine], now, 8 * DAY_S)
    assert found, "some day of the next week"
    assert [span.begin_s for span in found] == sorted(span.begin_s for span in found)
    for span in found:
        assert span.end_s > now
        assert 0 < span.end_s - span.begin_s <= 27 * 3600
        begins = datetime.fromtimestamp(span.begin_s, there)
        skipped = begins.hour * 60 + begins.minute != begin
        assert skipped or DAYS[begins.weekday()] in days
        assert not skipped or name != "UTC"


def test_days_are_written_as_people_do() -> None:
    assert parse_days("mon-fri") == DAYS[:5]
    assert parse_days("sat, sun") == ("sat", "sun")
    assert parse_days("fri-mon") == ("mon", "fri", "sat", "sun")
    assert parse_days(["wed", "Mon"]) == ("mon", "wed")
    assert parse_days("daily") == DAYS


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"from": "25:00", "to": "26:00"}, "'25:00' is not a time of day"),
        ({"from": 1080, "to": "19:00"}, 'put the time of day in quotes: "18:00"'),
        ({"from": 8, "to": "19:00"}, 'put the time of day in quotes: "08:00"'),
        ({"from": "08:00", "to": "08:00"}, "08:00 is where it begins; for a whole day: from 00:00 to 24:00"),
        ({"from": "24:00", "to": "08:00"}, "24:00 is where a day ends"),
        ({"from": "08:00", "to": "09:00", "days": "monday"}, "did you mean mon?"),
        ({"from": "08:00", "to": "09:00", "days": []}, "names no days"),
        ({"from": "08:00", "to": "09:00", "timezone": "Europe/Berln"}, "did you mean Europe/Berlin?"),
        ({"from": "08:00", "to": "09:00", "timezone": "../etc/passwd"}, "is not a time zone"),
        ({"from": "08:00", "to": "09:00", "timezone": "Europe"}, "is not a time zone"),
        ({"from": "08:00", "to": "09:00", "replicas": 0}, "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_is_refused_with_the_cure(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace("?", r"\?")):
        Hours.model_validate(given)


def test_a_machine_without_time_zones_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> zoneinfo.ZoneInfo:
        raise zoneinfo.ZoneInfoNotFoundError(name)

    monkeypatch.setattr(zoneinfo, "ZoneInfo", none)
    monkeypatch.setattr(zoneinfo, "available_timezones", set)
    zone.cache_clear()
    try:
        assert zone("UTC") is UTC
        with pytest.raises(WrongValue, match="install the time zones: pip install tzdata, or use UTC"):
            zone("Europe/Berlin")
    finally:
        zone.cache_clear()


def test_a_card_with_a_schedule_is_read_again_as_it_was_written() -> None:
    card = ModelCard.model_validate(
        {"model_id": "a", "model_source": "a", "max_replicas": 2, "schedule": [{"days": "mon-fri", "from": "08:00", "to": "18:00", "timezone": "Europe/Berlin", "replicas": 2}]}  # noqa: E501
    )  # fmt: skip
    assert ModelCard.model_validate(card.model_dump(mode="json")) == card
    plain = ModelCard(model_id="a", model_source="a", max_replicas=2)
    assert card.hash != plain.hash
    assert card.engine_hash == plain.engine_hash, "no engine starts again for it"


def test_more_than_max_replicas_is_a_mistake_with_its_place(tmp_path: Path) -> None:
    config = tmp_path / "roundhouse.yaml"
    config.write_text(
        "models:\n- model_id: a\n  model_source: a\n  schedule:\n  - {from: 08:00, to: '18:00', replicas: 2}\n"
    )
    with pytest.raises(ConfigError) as refused:
        load_config(config)
    (problem,) = refused.value.problems
    assert problem.field == "models[0].schedule[0].replicas"
    assert problem.message == "2 is above max_replicas (1)"
