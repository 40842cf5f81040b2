"""Sources as cards write them: a folder, ``hf://org/repo@revision``, ``s3://bucket/prefix``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from models.weights.errors import SourceRefused

HF_SCHEME = "hf://"
S3_SCHEME = "s3://"
_HUB = re.compile(r"hf://([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)@([A-Za-z0-9][\w./-]*)", re.ASCII)
_S3 = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/([^\s?#\\\x00-\x1f]+?)/*", re.ASCII)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://", re.ASCII)


@dataclass(frozen=True, slots=True)
class HubUrl:
    repo: str
    revision: str

    def __str__(self) -> str:
        return f"{HF_SCHEME}{self.repo}@{self.revision}"


@dataclass(frozen=True, slots=True)
class S3Url:
    """``prefix``: without slashes at its ends."""

    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"{S3_SCHEME}{self.bucket}/{self.prefix}"


@dataclass(frozen=True, slots=True)
class FolderUrl:
    folder: Path

    def __str__(self) -> str:
        return str(self.folder)


SourceUrl: TypeAlias = HubUrl | S3Url | FolderUrl


def is_remote(source: str) -> bool:
    return source.startswith((HF_SCHEME, S3_SCHEME))


def parse_remote(source: str) -> HubUrl | S3Url | None:
    """None for a local folder. Looks at the text alone. Raises SourceRefused."""
    if not source.strip() or "\0" in source:
        raise SourceRefused("is empty", "name a folder, hf://org/repo@revision or s3://bucket/prefix")
    if source.startswith(HF_SCHEME):
        match = _HUB.fullmatch(source)
        if match is None or ".." in source:
            raise SourceRefused(f"{source[:100]!r} is not complete", "write hf://org/repo@revision, for example @main")
        return HubUrl(match[1], match[2])
    if source.startswith(S3_SCHEME):
        match = _S3.fullmatch(source)
        if match is None or any(part in ("", ".", "..") for part in match[2].split("/")):
            raise SourceRefused(f"{source[:100]!r} is not complete", "write s3://bucket/prefix")
        return S3Url(match[1], match[2])
    if _SCHEME.match(source):
        raise SourceRefused(
            f"{source[:100]!r} is of an unknown kind",
            "use a local folder, hf://org/repo@revision or s3://bucket/prefix",
        )
    return None


def parse_source(source: str, base: Path) -> SourceUrl:
    """``base``: what a relative folder is relative to. Raises SourceRefused."""
    remote = parse_remote(source)
    if remote is not None:
        return remote
    try:
        return FolderUrl((base / Path(source).expanduser()).resolve())
    except RuntimeError:  # ~somebody who is not known here
        raise SourceRefused(f"the folder {source[:100]!r} is nobody's home", "write the whole path") from None
