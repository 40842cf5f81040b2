"""Hours in which a model is kept warm, as a card's ``schedule`` says: days, and times of day in a time zone."""

from __future__ import annotations

import functools
import re
import zoneinfo
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Annotated

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from models.catalog.errors import WrongValue
from models.catalog.fields import Count, Section
from models.catalog.problems import did_you_mean

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60
_TIME = re.compile(r"([0-9]{1,2}):([0-9]{2})", re.ASCII)
_HOW_TIME = "write a time of day like 08:00, from 00:00 to 24:00"
_HOW_DAYS = "write days like mon-fri, sat or mon,wed, or daily"
_TIME_SCHEMA = {"type": "string", "pattern": r"^([01]?[0-9]|2[0-3]):[0-5][0-9]$|^24:00$", "description": "HH:MM"}
_DAYS_SCHEMA = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"enum": list(DAYS)}}],
    "description": "mon-fri, sat or mon,wed; daily is every day",
}


def parse_minutes(value: object) -> int:
    """Minutes since midnight. Numbers are refused: YAML reads 18:00 without quotes as 1080, and 8 may mean anything."""
    if type(value) is int:
        meant = format_minutes(value) if 60 <= value <= DAY_MINUTES else "08:00"
        raise WrongValue(f"{value} is a number", f'put the time of day in quotes: "{meant}"')
    match = _TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise WrongValue(f"{str(value)[:60]!r} is not a time of day", _HOW_TIME)
    hours, minutes = int(match[1]), int(match[2])
    if minutes > 59 or hours * 60 + minutes > DAY_MINUTES:
        raise WrongValue(f"{str(value)[:60]!r} is not a time of day", _HOW_TIME)
    return hours * 60 + minutes


def format_minutes(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def parse_days(value: object) -> tuple[str, ...]:
    """In the order of the week, each once. ``fri-mon`` goes over the weekend."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not parts:
        raise WrongValue(f"{str(value)[:60]!r} names no days", _HOW_DAYS)
    found = {day for part in parts for day in _days(str(part).strip().lower())}
    return tuple(day for day in DAYS if day in found)


def _days(part: str) -> Iterable[str]:
    if part == "daily":
        return DAYS
    first, dash, last = part.partition("-")
    for day in (first, last) if dash else (first,):
        if day not in DAYS:
            raise WrongValue(f"{day[:60]!r} is not a day of the week", did_you_mean(day, DAYS))
    begin, end = DAYS.index(first), DAYS.index(last or first)
    return [DAYS[place % 7] for place in range(begin, (end if end >= begin else end + 7) + 1)]


@functools.lru_cache(maxsize=256)
def zone(name: str) -> tzinfo:
    """Raises WrongValue."""
    if name == "UTC":  # known without any database of time zones
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        known = zoneinfo.available_timezones()
    if not known:
        raise WrongValue(f"{name[:60]!r} is not known here", "install the time zones: pip install tzdata, or use UTC")
    cure = did_you_mean(name, known)
    cure = cure if cure.startswith("did you mean") else "use a name like Europe/Berlin or UTC"
    raise WrongValue(f"{name[:60]!r} is not a time zone", cure)


def check_zone(name: str) -> str:
    zone(name)
    return name


Minutes = Annotated[int, BeforeValidator(parse_minutes), PlainSerializer(format_minutes), WithJsonSchema(_TIME_SCHEMA)]
Days = Annotated[tuple[str, ...], BeforeValidator(parse_days), WithJsonSchema(_DAYS_SCHEMA)]
ZoneName = Annotated[str, AfterValidator(check_zone), WithJsonSchema({"type": "string"})]


class Hours(Section):
    """``replicas`` are kept from ``from`` to ``to`` on these days; a span over midnight is of the day it begins on.

    A time that the clocks skip or repeat counts so that the span is rather longer than shorter.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)

    days: Days = Field(default=DAYS, description="On which days it begins; default: daily")
    begin: Minutes = Field(alias="from", description="Ready by then")
    to: Minutes = Field(description="Kept until then; before from: on the next day")
    timezone: ZoneName = Field(default="UTC", description="Whose clock: a name like Europe/Berlin")
    replicas: Annotated[Count, Field(ge=1)] = Field(default=1, description="How many are kept")

    @field_validator("begin")
    @classmethod
    def _is_in_the_day(cls, value: int) -> int:
        if value == DAY_MINUTES:
            raise WrongValue("24:00 is where a day ends", "write 00:00, and the next day")
        return value

    @field_validator("to")
    @classmethod
    def _is_a_span(cls, value: int, info: ValidationInfo) -> int:
        if value == info.data.get("begin"):
            raise WrongValue(f"{format_minutes(value)} is where it begins", "for a whole day: from 00:00 to 24:00")
        return value

    @property
    def text(self) -> str:
        """``08:00 to 18:00 Europe/Berlin``."""
        return f"{format_minutes(self.begin)} to {format_minutes(self.to)} {self.timezone}"


@dataclass(frozen=True, slots=True)
class Span:
    """One time that ``hours`` mean: from ``begin_s`` until before ``end_s`` (Unix)."""

    begin_s: float
    end_s: float
    hours: Hours


def spans(schedule: Iterable[Hours], now_s: float, ahead_s: float) -> tuple[Span, ...]:
    """Those that have not ended at ``now_s`` and begin before ``ahead_s`` from then, by their beginning."""
    found = [
        span
        for hours in schedule
        for span in _spans_near(hours, now_s, ahead_s)
        if span.end_s > now_s and span.begin_s <= now_s + ahead_s
    ]
    return tuple(sorted(found, key=lambda span: (span.begin_s, span.end_s, span.hours.replicas)))


def _spans_near(hours: Hours, now_s: float, ahead_s: float) -> Iterator[Span]:
    there = zone(hours.timezone)
    first = datetime.fromtimestamp(now_s, there).date() - timedelta(days=2)
    over_midnight = DAY_MINUTES if hours.to <= hours.begin else 0
    for number in range(int(ahead_s // 86_400) + 5):
        day = first + timedelta(days=number)
        if DAYS[day.weekday()] in hours.days:
            begin_s = min(_moments(day, hours.begin, there))
            yield Span(begin_s, max(_moments(day, hours.to + over_midnight, there)), hours)


def _moments(day: date, minutes: int, there: tzinfo) -> tuple[float, float]:
    """A time that the clocks show twice or skip is two moments."""
    wall = datetime.combine(day, time()) + timedelta(minutes=minutes)
    return (
        wall.replace(tzinfo=there, fold=0).timestamp(),
        wall.replace(tzinfo=there, fold=1).timestamp(),
    )
