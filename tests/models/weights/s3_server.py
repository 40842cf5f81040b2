"""A small server that speaks S3: lists, heads, ranges and preconditions. Signatures are taken on trust."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.models.weights.serving import Files, Handler, serving

PART_BYTES = 8 * 1024


@dataclass
class S3(Files):
    """``files``: by key. ``sums``: how the objects were uploaded. ``etags``: that it names where they are wrong.

    ``signed``: whether each request so far bore a signature.
    """

    bucket: str = "models"
    sums: Literal["md5", "parts", "sha256", "none"] = "md5"
    etags: dict[str, str] = field(default_factory=dict)
    page: int = 2  # keys in one answer
    denied: bool = False
    signed: list[bool] = field(default_factory=list)


@contextmanager
def s3_of(files: dict[str, bytes], prefix: str = "tiny") -> Iterator[S3]:
    s3 = S3({f"{prefix}/{name}": content for name, content in files.items()})
    with serving(s3, S3Handler):
        yield s3


class S3Handler(Handler):
    def answer(self, with_body: bool) -> None:
        s3: S3 = self.server.content
        s3.asked += 1
        s3.signed.append("authorization" in self.headers)
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if s3.denied:
            self._error(403, "AccessDenied", with_body)
        elif bucket != s3.bucket:
            self._error(404, "NoSuchBucket", with_body)
        elif not key:
            self._list(s3, query)
        elif key not in s3.files:
            self._error(404, "NoSuchKey", with_body)
        elif self.headers.get("if-match", _etag(s3, key)) != _etag(s3, key):
            self._error(412, "PreconditionFailed", with_body)
        else:
            self._object(s3, key, query, with_body)

    def _object(self, s3: S3, key: str, query: dict[str, str], with_body: bool) -> None:
        content = s3.files[key]
        headers = {"etag": _etag(s3, key)}
        if s3.sums == "parts":  # as moto has it: of the parts' checksums, and not saying so
            headers["x-amz-checksum-crc32"] = "AAAAAA=="
        if s3.sums == "sha256":
            headers["x-amz-checksum-sha256"] = base64.b64encode(hashlib.sha256(content).digest()).decode()
        if query.get("partNumber") == "1" and s3.sums == "parts":
            count = len(_parts(content))
            self.send(206, content[:PART_BYTES], {**headers, "x-amz-mp-parts-count": str(count)}, with_body)
            return
        self.send_file(key, headers, with_body)

    def _list(self, s3: S3, query: dict[str, str]) -> None:
        keys = sorted(key for key in s3.files if key.startswith(query.get("prefix", "")))
        begin = int(query.get("continuation-token", "0"))
        shown = keys[begin : begin + s3.page]
        more = begin + s3.page < len(keys)
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(s3.files[key])}</Size></Contents>" for key in shown
        )
        token = f"<NextContinuationToken>{begin + s3.page}</NextContinuationToken>" if more else ""
        body = (
            f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>{s3.bucket}</Name>'
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{entries}</ListBucketResult>"
        )
        self.send(200, body.encode(), {"content-type": "application/xml"}, with_body=True)

    def _error(self, status: int, code: str, with_body: bool) -> None:
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        self.send(status, body, {"content-type": "application/xml"}, with_body)


def _etag(s3: S3, key: str) -> str:
    if key in s3.etags:
        return f'"{s3.etags[key]}"'
    content = s3.files[key]
    if s3.sums == "parts":
        digests = b"".join(_md5(part) for part in _parts(content))
        return f'"{_md5(digests).hex()}-{len(_parts(content))}"'
    if s3.sums == "none":
        return f'"{"opaque" + _md5(content).hex()}"'
    return f'"{_md5(content).hex()}"'


def _parts(content: bytes) -> list[bytes]:
    return [content[place : place + PART_BYTES] for place in range(0, len(content), PART_BYTES)]


def _md5(content: bytes) -> bytes:
    return hashlib.md5(content, usedforsecurity=False).digest()
