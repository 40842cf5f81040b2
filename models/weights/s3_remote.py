"""S3 and what speaks like it (MinIO, Ceph, R2), through botocore.

Region, endpoint, credentials and profile come from where every AWS tool looks: AWS_REGION, AWS_ENDPOINT_URL(_S3),
AWS_ACCESS_KEY_ID, AWS_PROFILE, ~/.aws, the machine's role. Without credentials the bucket is read as the public may.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from models.weights.checksums import Expected
from models.weights.errors import SourceRefused, TransferFailed, WeightsError
from models.weights.remote import CHUNK_BYTES, SILENCE_S, Listing, RemoteFile
from models.weights.selection import MOST_FILES, check_name, is_wanted, refuse_pickles
from models.weights.urls import S3Url

CONNECT_S = 10.0
_MD5 = re.compile(r"[0-9a-f]{32}")
_MD5_PARTS = re.compile(r"[0-9a-f]{32}-[0-9]+")
log = logging.getLogger(__name__)


class S3Remote:
    def __init__(self, url: S3Url, env: Mapping[str, str] = os.environ) -> None:
        self.url = url
        self._region = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION")

    @cached_property
    def _client(self) -> Any:
        import botocore.session
        from botocore import UNSIGNED
        from botocore.config import Config

        session = botocore.session.get_session()
        anonymous = session.get_credentials() is None
        config = Config(
            connect_timeout=CONNECT_S,
            read_timeout=SILENCE_S,
            retries={"mode": "standard", "total_max_attempts": 3},
            signature_version=UNSIGNED if anonymous else None,
            # A bucket's name before the host's, as S3 itself wants it, is found by few others.
            s3={"addressing_style": "auto" if _is_aws(session) else "path"},
        )
        region = self._region or session.get_config_variable("region") or "us-east-1"
        return session.create_client("s3", region_name=region, config=config)

    def listing(self) -> Listing:
        found = self._objects()
        refuse_pickles(name for name in found if is_wanted(name) or "/" not in name)
        wanted = sorted(name for name in found if is_wanted(name))
        files = tuple(self._file(check_name(name), found[name]) for name in wanted)
        tags = "".join(f"{file.name}\0{file.size_bytes}\0{file.tag}\n" for file in files)
        return Listing(hashlib.sha256(tags.encode()).hexdigest(), files)

    def _objects(self) -> dict[str, int]:
        """Sizes by name below the prefix. Raises SourceRefused when there are none."""
        prefix, found = f"{self.url.prefix}/", dict[str, int]()
        try:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.url.bucket, Prefix=prefix)
            for page in pages:
                for each in page.get("Contents", ()):
                    name = str(each["Key"]).removeprefix(prefix)
                    if name and not name.endswith("/"):
                        found[name] = int(each["Size"])
                if len(found) > MOST_FILES:
                    raise SourceRefused(f"there are more than {MOST_FILES} objects below it", "name the model's prefix")
        except WeightsError:
            raise
        except Exception as error:  # botocore makes its errors at run time, urllib3's and OSError come through it
            raise self._explained(error) from error
        if not found:
            raise SourceRefused("there is nothing below this prefix", "write s3://bucket/prefix of the model's files")
        return found

    def _file(self, name: str, size_bytes: int) -> RemoteFile:
        key = f"{self.url.prefix}/{name}"
        try:
            head = self._client.head_object(Bucket=self.url.bucket, Key=key, ChecksumMode="ENABLED")
            tag = str(head["ETag"]).strip('"')
            expected = _whole_checksum(head, tag)
            if expected is None and _MD5_PARTS.fullmatch(tag) and not _hides_md5(head):
                part = self._client.head_object(Bucket=self.url.bucket, Key=key, PartNumber=1)
                parts = int(tag.rpartition("-")[2])
                # A server that does not know part numbers describes the whole object instead.
                if part.get("PartsCount") == parts and int(part["ContentLength"]) > 0:
                    expected = Expected("md5-parts", tag, "S3", part_bytes=int(part["ContentLength"]))
        except Exception as error:
            raise self._explained(error) from error
        return RemoteFile(name, int(head.get("ContentLength", size_bytes)), tag, expected)

    def read(self, file: RemoteFile, offset: int) -> tuple[int, Iterator[bytes]]:
        key = f"{self.url.prefix}/{file.name}"
        ranged = {"Range": f"bytes={offset}-"} if offset else {}
        try:
            answer = self._client.get_object(Bucket=self.url.bucket, Key=key, IfMatch=f'"{file.tag}"', **ranged)
        except Exception as error:
            raise self._explained(error) from error
        began = offset if answer["ResponseMetadata"]["HTTPStatusCode"] == 206 else 0
        return began, self._chunks(file, answer["Body"])

    def _chunks(self, file: RemoteFile, body: Any) -> Iterator[bytes]:
        try:
            while chunk := body.read(CHUNK_BYTES):
                yield chunk
        except Exception as error:
            raise self._explained(error, f" within {file.name}") from error
        finally:
            body.close()

    def _explained(self, error: Exception, where: str = "") -> WeightsError:
        code = str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))
        match code:
            case "NoSuchBucket":
                return SourceRefused(f"there is no bucket {self.url.bucket!r}")
            case "AccessDenied" | "403" | "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken":
                return SourceRefused(
                    f"access to it is refused ({code})",
                    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
                )
            case "PermanentRedirect" | "301" | "AuthorizationHeaderMalformed":
                return SourceRefused(f"the bucket is in another region ({code})", "set AWS_REGION")
            case "PreconditionFailed" | "412" | "NoSuchKey" | "404":
                return SourceRefused(
                    "a file of it changed while it was fetched", "try again: it begins with the new one"
                )
        log.info("download of %s broke off: %s: %s", self.url, type(error).__name__, error)
        return TransferFailed(
            f"the download failed{where} ({code or type(error).__name__})",
            "check AWS_ENDPOINT_URL and the network, and try again: it goes on from there",
        )


def _is_aws(session: Any) -> bool:
    named = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    if any(os.environ.get(name) for name in named):
        return False
    profile = session.get_scoped_config()
    return not profile.get("endpoint_url")


def _whole_checksum(head: Mapping[str, Any], tag: str) -> Expected | None:
    """Of the whole object; a checksum of parts' checksums cannot be compared with a file's.

    S3 marks those with the parts' number (``...-3``); others that speak like it do not, but do not call them whole.
    """
    if _MD5_PARTS.fullmatch(tag) and head.get("ChecksumType") != "FULL_OBJECT":
        return None
    sha256, crc32 = str(head.get("ChecksumSHA256", "-")), str(head.get("ChecksumCRC32", "-"))
    if "-" not in sha256:
        import base64

        return Expected("sha256", base64.b64decode(sha256).hex(), "S3")
    if _MD5.fullmatch(tag) and not _hides_md5(head):
        return Expected("md5", tag, "S3")
    if "-" not in crc32:
        return Expected("crc32", crc32, "S3")
    return None


def _hides_md5(head: Mapping[str, Any]) -> bool:
    """With these kinds of encryption the ETag is no MD5."""
    return str(head.get("ServerSideEncryption", "")).startswith("aws:kms") or "SSECustomerAlgorithm" in head
