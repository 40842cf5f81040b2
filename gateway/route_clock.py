"""The controller's times in this machine's time: another machine's clock may be wrong, and so may this one."""

from __future__ import annotations

import msgspec

from models.store.records import Failure, RouteTable

CLOCKS_AGREE_S = 2.0  # a table is under way for less, and clocks that are kept in step differ by less


def by_this_clock(table: RouteTable, now_unix_s: float) -> RouteTable:
    """The table, just read: with its failures' times moved, where the clock it was written by is another one."""
    ahead_s = 0.0 if table.written_unix_s is None else now_unix_s - table.written_unix_s
    if abs(ahead_s) <= CLOCKS_AGREE_S or not any(model.failure for model in table.models):
        return table
    models = tuple(
        msgspec.structs.replace(model, failure=_moved(model.failure, ahead_s)) if model.failure else model
        for model in table.models
    )
    return msgspec.structs.replace(table, models=models)


def _moved(failure: Failure, by_s: float) -> Failure:
    return msgspec.structs.replace(
        failure, at_unix_s=failure.at_unix_s + by_s, retry_at_unix_s=failure.retry_at_unix_s + by_s
    )
