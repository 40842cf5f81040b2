"""A file as it is recorded and as callers see it."""

from __future__ import annotations

import re
import secrets

import msgspec

# What callers may upload for; batches make files of their own.
PURPOSES = ("assistants", "batch", "evals", "fine-tune", "user_data", "vision")
BATCH_PURPOSE = "batch"
OUTPUT_PURPOSE = "batch_output"
LONGEST_NAME = 255
_ID = re.compile(r"file-[0-9a-f]{32}", re.ASCII)


class FileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``sha256``: hex, of the content. ``expires_at``: Unix seconds, None: never."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    sha256: str
    expires_at: int | None = None


class FileObject(msgspec.Struct, frozen=True, kw_only=True):
    """As in OpenAI's API, with the SHA-256 of the content besides."""

    id: str
    object: str = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: str = "processed"
    status_details: str | None = None
    sha256: str


class FileList(msgspec.Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: tuple[FileObject, ...]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: str = "file"
    deleted: bool = True


DOCUMENTS = (FileObject, FileList, FileDeleted)


def new_file_id() -> str:
    return f"file-{secrets.token_hex(16)}"


def is_file_id(text: str) -> bool:
    """Whether it may be part of a path on this disk."""
    return _ID.fullmatch(text) is not None


def shown(record: FileRecord) -> FileObject:
    return FileObject(
        id=record.id,
        bytes=record.bytes,
        created_at=record.created_at,
        expires_at=record.expires_at,
        filename=record.filename,
        purpose=record.purpose,
        sha256=record.sha256,
    )


def file_list(records: tuple[FileRecord, ...], more: bool) -> FileList:
    return FileList(
        data=tuple(shown(record) for record in records),
        first_id=records[0].id if records else None,
        last_id=records[-1].id if records else None,
        has_more=more,
    )


def safe_name(given: str) -> str:
    """The last part of a file's name as the caller wrote it, without what disturbs headers and terminals."""
    name = given.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(character for character in name if character.isprintable())[:LONGEST_NAME].strip() or "file"
