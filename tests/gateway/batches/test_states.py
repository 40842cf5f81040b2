"""From one state of a batch to the next; what comes too late changes nothing."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batches import states
from gateway.batches.lines import Checked
from gateway.batches.records import OPEN, BatchRecord, LineError, shown

NOW_S = 100.7
WRONG = LineError(code="x", message="wrong", line=1)


def batch(status: str = "validating", **fields: object) -> BatchRecord:
    record = BatchRecord(
        id="batch_1", owner="ann", name="ann's", endpoint="/v1/x", input_file_id="file-1", completion_window="24h",
        status=status, created_at=1, expires_at=1000, output_file="file-o", error_file="file-e", output_lasts_s=10,
    )  # fmt: skip
    return msgspec.structs.replace(record, **fields)


def test_the_usual_way() -> None:
    record = states.checked(batch(), Checked(5, (), "m"), NOW_S)
    assert record is not None
    assert (record.status, record.in_progress_at, record.counts.total, record.model) == ("in_progress", 100, 5, "m")
    record = states.counted(record, 2, 1)
    assert record is not None
    assert states.counted(record, 2, 1) is None, "nothing new"
    record = states.finalizing(record, NOW_S, expired=False)
    assert record is not None
    assert shown(record).output_file_id is None, "it is not there yet"
    record = states.ended(record, 4, 1, NOW_S)
    assert record is not None
    assert (record.status, record.completed_at, record.counts.completed, record.counts.failed) == (
        "completed", 100, 4, 1
    )  # fmt: skip
    assert (shown(record).output_file_id, shown(record).error_file_id) == ("file-o", "file-e")


def test_no_file_for_nothing() -> None:
    record = states.ended(batch("finalizing"), 0, 0, NOW_S)
    assert record is not None
    assert (shown(record).output_file_id, shown(record).error_file_id) == (None, None)


def test_a_wrong_file_fails() -> None:
    record = states.checked(batch(), Checked(5, (WRONG,), None), NOW_S)
    assert record is not None
    assert (record.status, record.failed_at, record.errors) == ("failed", 100, (WRONG,))
    errors = shown(record).errors
    assert errors is not None
    assert errors.data == (WRONG,)


def test_expired_and_cancelled() -> None:
    expired = states.finalizing(batch("in_progress"), NOW_S, expired=True)
    assert expired is not None
    ended = states.ended(expired, 1, 1, NOW_S)
    assert ended is not None
    assert ended.status == "expired"
    cancelling = states.cancelling(expired, NOW_S)
    assert cancelling is not None
    ended = states.ended(cancelling, 1, 0, NOW_S)
    assert ended is not None
    assert (ended.status, ended.cancelled_at) == ("cancelled", 100)


@pytest.mark.parametrize("status", ["completed", "failed", "expired", "cancelled"])
def test_what_has_ended_stays_as_it_is(status: str) -> None:
    record = batch(status)
    assert states.checked(record, Checked(1, (), "m"), NOW_S) is None
    assert states.cancelling(record, NOW_S) is None
    assert states.finalizing(record, NOW_S, expired=True) is None
    assert states.ended(record, 1, 1, NOW_S) is None
    assert states.failed(record, "code", "message", NOW_S) is None


steps = st.sampled_from(["check", "bad", "count", "finalize", "expire", "cancel", "end", "fail"])


@given(st.lists(steps, max_size=12))
def test_whatever_happens_in_whatever_order_it_ends_once(names: list[str]) -> None:
    ways = {
        "check": lambda record: states.checked(record, Checked(3, (), "m"), NOW_S),
        "bad": lambda record: states.checked(record, Checked(3, (WRONG,), None), NOW_S),
        "count": lambda record: states.counted(record, 1, 0) if record.status == "in_progress" else None,
        "finalize": lambda record: states.finalizing(record, NOW_S, expired=False),
        "expire": lambda record: states.finalizing(record, NOW_S, expired=True),
        "cancel": lambda record: states.cancelling(record, NOW_S),
        "end": lambda record: states.ended(record, 3, 0, NOW_S),
        "fail": lambda record: states.failed(record, "code", "message", NOW_S),
    }
    record, ends = batch(), 0
    for name in names:
        changed = ways[name](record)
        if changed is not None:
            assert record.status in OPEN, "what has ended does not change"
            ends += changed.status not in OPEN
            record = changed
    assert ends <= 1
