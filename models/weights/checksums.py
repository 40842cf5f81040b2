"""Checksums that the other side names, computed while the bytes pass by."""

from __future__ import annotations

import base64
import hashlib
import zlib
from typing import Literal, Protocol, TypeAlias

import msgspec

Algorithm = Literal["sha256", "git-sha1", "md5", "md5-parts", "crc32"]
Data: TypeAlias = bytes | bytearray | memoryview


class Expected(msgspec.Struct, frozen=True):
    """What a file's bytes must come to.

    ``value``: hex digits; for crc32 base64 as S3 writes it. ``part_bytes``: of md5-parts, the ETag of an S3 multipart
    upload: the MD5 of its parts' MD5s, then ``-`` and their number. ``said_by``: for people, "the hub", "SHA256SUMS".
    """

    algorithm: Algorithm
    value: str
    said_by: str
    part_bytes: int = 0


class _Hash(Protocol):
    def update(self, data: Data, /) -> None: ...
    def hexdigest(self) -> str: ...


class Digester:
    """SHA-256 of a file, and whatever else is expected of it, in one pass."""

    def __init__(self, size_bytes: int, expected: Expected | None = None) -> None:
        self._sha256 = hashlib.sha256()
        self._expected = expected
        self._other = _other(size_bytes, expected)

    def update(self, data: Data) -> None:
        self._sha256.update(data)
        if self._other is not None:
            self._other.update(data)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    def agrees(self) -> bool:
        """Whether the bytes so far come to what is expected; true when nothing is."""
        if self._expected is None:
            return True
        found = self.sha256 if self._other is None else self._other.hexdigest()
        return found == self._expected.value


def _other(size_bytes: int, expected: Expected | None) -> _Hash | None:
    match expected.algorithm if expected is not None else None:
        case "git-sha1":
            return hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)
        case "md5":
            return hashlib.md5(usedforsecurity=False)
        case "md5-parts":
            assert expected is not None
            return _PartsMd5(expected.part_bytes)
        case "crc32":
            return _Crc32()
        case _:
            return None


class _Crc32:
    def __init__(self) -> None:
        self._sum = 0

    def update(self, data: Data, /) -> None:
        self._sum = zlib.crc32(data, self._sum)

    def hexdigest(self) -> str:
        return base64.b64encode(self._sum.to_bytes(4, "big")).decode()


class _PartsMd5:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html, "multipart"."""

    def __init__(self, part_bytes: int) -> None:
        if part_bytes <= 0:
            raise ValueError(f"a part has {part_bytes} bytes")
        self._part_bytes = part_bytes
        self._whole = hashlib.md5(usedforsecurity=False)
        self._parts = 0
        self._part = hashlib.md5(usedforsecurity=False)
        self._filled = 0

    def update(self, data: Data, /) -> None:
        view = memoryview(data)
        while view:
            taken = view[: self._part_bytes - self._filled]
            self._part.update(taken)
            self._filled += len(taken)
            view = view[len(taken) :]
            if self._filled == self._part_bytes:
                self._end_part()

    def _end_part(self) -> None:
        self._whole.update(self._part.digest())
        self._parts += 1
        self._part, self._filled = hashlib.md5(usedforsecurity=False), 0

    def hexdigest(self) -> str:
        whole, parts = self._whole.copy(), self._parts
        if self._filled:
            whole.update(self._part.digest())
            parts += 1
        return f"{whole.hexdigest()}-{parts}"
