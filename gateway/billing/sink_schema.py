"""The tables of the PostgreSQL copy, and how each version of them becomes the next. Imports SQLAlchemy.

``usage_events``: one row for each settled request. ``sink_positions``: how far an installation's stream is copied,
changed in the transaction of the rows. ``sink_gaps``: where events may be missing. ``schema_version``: migrations done.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Boolean, Column, DateTime, Integer, MetaData, Numeric, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from models.store.tenancy import NANO
from models.store.usage import SettledEvent

SCHEMA = "roundhouse"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NANO_DIGITS = len(str(NANO)) - 1

# Each is run once, in order; what is here never changes any more, new versions are added below.
MIGRATIONS = (
    f"""
    CREATE TABLE {SCHEMA}.usage_events (
        id text NOT NULL,
        started_us bigint NOT NULL,
        started_at timestamptz NOT NULL,
        ended_at timestamptz NOT NULL,
        ended_us bigint NOT NULL,
        key_id text NOT NULL,
        project text NOT NULL,
        tenant text NOT NULL,
        model text NOT NULL,
        endpoint text NOT NULL,
        status integer NOT NULL,
        code text NOT NULL,
        stream boolean NOT NULL,
        prompt_tokens bigint NOT NULL,
        cached_tokens bigint NOT NULL,
        completion_tokens bigint NOT NULL,
        estimated boolean NOT NULL,
        cut boolean NOT NULL,
        queue_us bigint NOT NULL,
        wake_us bigint NOT NULL,
        run_us bigint NOT NULL,
        gpu_ns bigint NOT NULL,
        memory_kib_ms bigint NOT NULL,
        start_gpu_ns bigint NOT NULL,
        cost numeric(38, 9) NOT NULL,
        currency text NOT NULL,
        lines jsonb NOT NULL,
        price_list text NOT NULL,
        price_version integer NOT NULL,
        worker text NOT NULL,
        runs jsonb NOT NULL,
        PRIMARY KEY (id, started_us, key_id)
    );
    CREATE INDEX usage_events_by_tenant ON {SCHEMA}.usage_events (tenant, ended_at);
    CREATE INDEX usage_events_by_time ON {SCHEMA}.usage_events (ended_at);
    CREATE TABLE {SCHEMA}.sink_positions (installation text PRIMARY KEY, position text NOT NULL);
    CREATE TABLE {SCHEMA}.sink_gaps (
        installation text NOT NULL,
        found_at timestamptz NOT NULL DEFAULT now(),
        after_position text NOT NULL,
        before_position text NOT NULL,
        PRIMARY KEY (installation, after_position, before_position)
    );
    """,
)

metadata = MetaData(schema=SCHEMA)
events = Table(
    "usage_events",
    metadata,
    Column("id", Text, primary_key=True),
    Column("started_us", BigInteger, primary_key=True, autoincrement=False),
    *(Column(name, DateTime(timezone=True)) for name in ("started_at", "ended_at")),
    Column("ended_us", BigInteger),
    Column("key_id", Text, primary_key=True),  # callers may name their requests as others do theirs
    *(Column(name, Text) for name in ("project", "tenant", "model", "endpoint")),
    Column("status", Integer),
    Column("code", Text),
    Column("stream", Boolean),
    *(Column(name, BigInteger) for name in ("prompt_tokens", "cached_tokens", "completion_tokens")),
    *(Column(name, Boolean) for name in ("estimated", "cut")),
    *(Column(name, BigInteger) for name in ("queue_us", "wake_us", "run_us", "gpu_ns", "memory_kib_ms")),
    Column("start_gpu_ns", BigInteger),
    Column("cost", Numeric(38, 9)),
    Column("currency", Text),
    Column("lines", JSONB),
    Column("price_list", Text),
    Column("price_version", Integer),
    Column("worker", Text),
    Column("runs", JSONB),
)
positions = Table("sink_positions", metadata, Column("installation", Text, primary_key=True), Column("position", Text))
gaps = Table(
    "sink_gaps",
    metadata,
    *(Column(name, Text, primary_key=True) for name in ("installation", "after_position", "before_position")),
)


def row(event: SettledEvent) -> dict[str, Any]:
    """One of ``usage_events``. Money in the currency, exactly; ``lines``: unit -> decimal, as text."""
    found = {name: _storable(value) for name, value in msgspec.structs.asdict(event).items()}
    return found | {
        "started_at": _time(event.started_us),
        "ended_at": _time(event.ended_us),
        "run_us": sum(run.us for run in event.runs),
        "cost": money(event.cost),
        "lines": {unit: format(money(nano), "f") for unit, nano in event.lines.items()},
        "runs": [_storable(msgspec.to_builtins(run)) for run in event.runs],
    }


def money(nano: int) -> Decimal:
    return Decimal(nano).scaleb(-_NANO_DIGITS)


def _time(unix_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=unix_us)


def _storable(value: Any) -> Any:
    """PostgreSQL takes no NUL in texts."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {name: _storable(each) for name, each in value.items()}
    return value
