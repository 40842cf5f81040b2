"""The shapes of answers about usage. Counts and times are whole numbers in the books' units, which their names say;
money is an exact decimal of ``currency``, as text."""

from __future__ import annotations

import msgspec

from models.store.usage import SettledEvent


class Sums(msgspec.Struct, kw_only=True):
    """``errors``: of the requests, those that were answered 4xx or 5xx. ``cached_tokens``: of the prompts'.
    ``gpu_ns``: nanoseconds of whole GPUs; ``start_gpu_ns``: of starts that are charged to them."""

    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    queue_us: int = 0
    wake_us: int = 0
    run_us: int = 0
    gpu_ns: int = 0
    memory_kib_ms: int = 0
    start_gpu_ns: int = 0
    cost: str = "0.00"


class UsageRow(Sums, kw_only=True):
    """Of one group; what it is not grouped by is null. ``at``: its hour (2026-11-22T08) or day (2026-11-22), UTC."""

    at: str | None = None
    tenant: str | None = None
    project: str | None = None
    key: str | None = None
    model: str | None = None


class KeyAnomaly(msgspec.Struct, kw_only=True):
    """A key that used ``times`` what it usually does, in the hour from ``hour_unix_s``. ``metric``: requests, tokens or
    cost; ``used`` and ``usual`` in whole units, of cost in billionths of the currency. ``text``: for people."""

    key: str
    tenant: str
    project: str
    metric: str
    hour_unix_s: int
    used: int
    usual: int
    times: int
    text: str


class UsageReport(msgspec.Struct, kw_only=True):
    """``since_unix_s``, ``until_unix_s``: what was asked for, widened to whole hours or days (UTC).
    ``settled_until_unix_s``: what is later may not be in it yet; null where nothing was ever settled."""

    object: str = "usage"
    since_unix_s: int
    until_unix_s: int
    settled_until_unix_s: float | None
    bucket: str
    by: tuple[str, ...]
    currency: str
    total: Sums
    data: tuple[UsageRow, ...]
    anomalies: tuple[KeyAnomaly, ...] = ()


class GpuUsageRow(msgspec.Struct, kw_only=True):
    """``use``: busy, idle, starting or free. ``at``: as in UsageRow."""

    at: str | None = None
    gpu: str | None = None
    use: str | None = None
    tenant: str | None = None
    project: str | None = None
    key: str | None = None
    model: str | None = None
    ns: int = 0


class GpuUsageReport(msgspec.Struct, kw_only=True):
    """``total_ns``: by use; together they are the time for which the GPUs were there."""

    object: str = "usage.gpus"
    since_unix_s: int
    until_unix_s: int
    settled_until_unix_s: float | None
    bucket: str
    by: tuple[str, ...]
    total_ns: dict[str, int]
    data: tuple[GpuUsageRow, ...]


class SettledRequest(SettledEvent, frozen=True):
    """``position``: of it among all that were settled. ``amount``: its cost as a decimal."""

    position: str = ""
    amount: str = "0.00"


class SettledRequests(msgspec.Struct, kw_only=True):
    """Newest first. ``next_before``: give it as ``before`` for older ones; null where there are none."""

    object: str = "list"
    data: tuple[SettledRequest, ...]
    next_before: str | None


class OwnLimit(msgspec.Struct, kw_only=True):
    """``of``: key, project or tenant, whose it is. ``limit``: as operators write it. Amounts are exact decimals, of
    money in the currency. ``used`` is null where other keys use it, too. ``resets_unix_s``: when what counts now has
    passed; null where nothing passes."""

    of: str
    limit: str
    what: str
    per: str
    models: str
    hard: bool
    amount: str
    used: str | None
    remaining: str
    resets_unix_s: float | None


class OwnUsage(msgspec.Struct, kw_only=True):
    """Of the key that asks, and of no other."""

    object: str = "usage"
    key: str
    name: str
    project: str
    tenant: str
    since_unix_s: int
    until_unix_s: int
    settled_until_unix_s: float | None
    currency: str
    total: Sums
    by_model: tuple[UsageRow, ...]
    by_day: tuple[UsageRow, ...]
    limits: tuple[OwnLimit, ...]


class InvoiceLineView(msgspec.Struct, kw_only=True):
    """``gpu_seconds``, ``start_gpu_seconds``: exact; ``gib_seconds``: to the millionth; ``amount``: exact."""

    project: str
    model: str
    requests: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    gpu_seconds: str
    start_gpu_seconds: str
    gib_seconds: str
    amount: str


class InvoiceShare(msgspec.Struct, kw_only=True):
    """Of one key, or of one day."""

    what: str
    name: str
    requests: int
    amount: str


class InvoiceView(msgspec.Struct, kw_only=True):
    """``total``: the exact sum of its lines, and of the costs of all requests; ``amount_due``: as it can be paid.
    ``final``: the month is over and all of it is settled."""

    object: str = "invoice"
    number: str
    tenant: str
    name: str
    month: str
    final: bool
    currency: str
    amount_due: str
    total: str
    lines: tuple[InvoiceLineView, ...]
    keys: tuple[InvoiceShare, ...]
    days: tuple[InvoiceShare, ...]


DOCUMENTS = (UsageReport, GpuUsageReport, SettledRequests, OwnUsage, InvoiceView)
