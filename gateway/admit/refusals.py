"""Why a request gets no place, in words for its caller, and when to come back."""

from __future__ import annotations

import re

from gateway.errors import EngineLost, GatewayError, HoldQueueFull, HoldTimeout, ModelStartFailed
from models.store.records import Failure

RETRY_AFTER_FULL_S = 2.0  # where nothing was measured yet
RETRY_AFTER_TIMEOUT_S = 5.0
RETRY_AFTER_LOST_S = 1.0
LONGEST_RETRY_AFTER_S = 600.0
OVERLOADED = "model_overloaded"
_PATH = re.compile(r"(?<![\w/:.])(?:/[\w.+@-]+){2,}/?")


def queue_full(model: str, waiting: int, cold: bool, retry_after_s: float | None) -> GatewayError:
    what = "to start" if cold else "for a free place"
    return HoldQueueFull(
        f"{waiting} requests already wait for the model '{model}' {what}; try again later.",
        retry_after_s=_bounded(retry_after_s, RETRY_AFTER_FULL_S),
    )


def displaced(model: str, retry_after_s: float | None) -> GatewayError:
    return HoldQueueFull(
        f"Too many requests wait for the model '{model}', and others came first; try again later.",
        retry_after_s=_bounded(retry_after_s, RETRY_AFTER_FULL_S),
    )


def starts_too_late(model: str, left_s: float) -> GatewayError:
    return HoldTimeout(
        f"The model '{model}' is starting and expected to be ready in {left_s:.1f} s, "
        "which is later than this request may wait.",
        param="model",
        retry_after_s=_bounded(left_s, RETRY_AFTER_TIMEOUT_S),
    )


def busy_too_long(model: str, wait_s: float) -> GatewayError:
    """Shed early: it would only wait in vain."""
    return HoldQueueFull(
        f"The model '{model}' is busy: a place is expected to be free in {wait_s:.1f} s, "
        "which is later than this request may wait.",
        code=OVERLOADED,
        retry_after_s=_bounded(wait_s, RETRY_AFTER_FULL_S),
    )


def not_ready_in_time(model: str, waited_s: float, left_s: float | None) -> GatewayError:
    return HoldTimeout(
        f"The model '{model}' was not ready within {waited_s:.1f} s; it may still be starting.",
        param="model",
        retry_after_s=_bounded(left_s, RETRY_AFTER_TIMEOUT_S),
    )


def not_free_in_time(model: str, waited_s: float, wait_s: float | None) -> GatewayError:
    return HoldQueueFull(
        f"The model '{model}' is busy: no place became free within {waited_s:.1f} s.",
        code=OVERLOADED,
        retry_after_s=_bounded(wait_s, RETRY_AFTER_FULL_S),
    )


def lost_for_good(model: str, waited_s: float) -> GatewayError:
    return EngineLost(
        f"The engine of the model '{model}' went away and no other took over within {waited_s:.1f} s; try again.",
        retry_after_s=RETRY_AFTER_LOST_S,
    )


def refused_at_once(failure: Failure | None, now_unix_s: float) -> GatewayError | None:
    """What a new request for a model without a replica is told, None when it may wait for one."""
    if failure is None or not (failure.permanent or failure.retry_at_unix_s > now_unix_s):
        return None
    return start_failed(failure, now_unix_s)


def refused_while_held(failure: Failure | None, since_unix_s: float, now_unix_s: float) -> GatewayError | None:
    """What a held request is told when a start failed, None when it waits on.

    A permanent failure counts whenever it happened: the request may have come in while the news was on its way. Any
    other only if it is of a start that the request waited for.
    """
    if failure is None or not (failure.permanent or failure.at_unix_s > since_unix_s):
        return None
    return start_failed(failure, now_unix_s)


def start_failed(failure: Failure, now_unix_s: float) -> ModelStartFailed:
    return ModelStartFailed(
        without_folders(failure.message),
        code=failure.code,
        permanent=failure.permanent,
        retry_after_s=max(1.0, failure.retry_at_unix_s - now_unix_s),
    )


def without_folders(message: str) -> str:
    """Callers learn which file it is about, not where it lies; operators see the whole path in the admin API."""
    return _PATH.sub(lambda path: path[0].rstrip("/").rpartition("/")[2], message)


def _bounded(seconds: float | None, unknown_s: float) -> float:
    return unknown_s if seconds is None else min(LONGEST_RETRY_AFTER_S, max(1.0, seconds))
