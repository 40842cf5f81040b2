"""A batch as it is recorded and as callers see it."""

from __future__ import annotations

import secrets

import msgspec

from gateway.asking import BACKGROUND

OPEN = ("validating", "in_progress", "finalizing", "cancelling")


class LineError(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a line of the input. ``line``: from 1."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    total: int = 0
    completed: int = 0
    failed: int = 0


class BatchRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Times are Unix seconds. ``owner``, ``name``: the API key's id and name; its requests are made on its behalf.

    The ids of the files that it will make are given when it is created: making them twice makes the same ones.
    """

    id: str
    owner: str
    name: str
    endpoint: str
    input_file_id: str
    completion_window: str
    status: str
    created_at: int
    expires_at: int
    output_file: str
    error_file: str
    output_lasts_s: int
    priority: int = BACKGROUND
    model: str | None = None
    metadata: dict[str, str] | None = None
    counts: Counts = Counts()
    errors: tuple[LineError, ...] = ()
    has_output: bool = False
    has_errors: bool = False
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None


class Errors(msgspec.Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: tuple[LineError, ...]


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """As in OpenAI's API."""

    id: str
    object: str = "batch"
    endpoint: str
    model: str | None
    errors: Errors | None
    input_file_id: str
    completion_window: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: Counts
    metadata: dict[str, str] | None


class BatchList(msgspec.Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: tuple[Batch, ...]
    first_id: str | None
    last_id: str | None
    has_more: bool


DOCUMENTS = (Batch, BatchList)


def new_batch_id() -> str:
    return f"batch_{secrets.token_hex(16)}"


def shown(record: BatchRecord) -> Batch:
    return Batch(
        id=record.id,
        endpoint=record.endpoint,
        model=record.model,
        errors=Errors(data=record.errors) if record.errors else None,
        input_file_id=record.input_file_id,
        completion_window=record.completion_window,
        status=record.status,
        output_file_id=record.output_file if record.has_output else None,
        error_file_id=record.error_file if record.has_errors else None,
        created_at=record.created_at,
        in_progress_at=record.in_progress_at,
        expires_at=record.expires_at,
        finalizing_at=record.finalizing_at,
        completed_at=record.completed_at,
        failed_at=record.failed_at,
        expired_at=record.expired_at,
        cancelling_at=record.cancelling_at,
        cancelled_at=record.cancelled_at,
        request_counts=record.counts,
        metadata=record.metadata,
    )


def batch_list(records: tuple[BatchRecord, ...], more: bool) -> BatchList:
    return BatchList(
        data=tuple(shown(record) for record in records),
        first_id=records[0].id if records else None,
        last_id=records[-1].id if records else None,
        has_more=more,
    )
