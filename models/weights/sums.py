"""Checksum files as ``sha256sum`` and its BSD cousin write them: ``SHA256SUMS``, ``model.safetensors.sha256``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from models.weights.checksums import Expected
from models.weights.selection import sums_files

MOST_BYTES = 2**20
_GNU = re.compile(r"\\?([0-9a-fA-F]{64}) [ *](.+)")
_BSD = re.compile(r"SHA256 \((.+)\) = ([0-9a-fA-F]{64})")
_BARE = re.compile(r"([0-9a-fA-F]{64})")


def parse_sums(text: str, said_by: str) -> dict[str, Expected]:
    """By file name. ``said_by``: the checksum file's own name; a bare sum in ``x.sha256`` is that of ``x``.

    Lines that say nothing of a SHA-256 are passed over: such files often begin with a comment.
    """
    found: dict[str, Expected] = {}
    for line in text.splitlines():
        line = line.strip()
        if match := _GNU.fullmatch(line):
            value, name = match[1], match[2]
        elif match := _BSD.fullmatch(line):
            value, name = match[2], match[1]
        elif (match := _BARE.fullmatch(line)) and said_by.endswith(".sha256"):
            value, name = match[1], said_by.removesuffix(".sha256")
        else:
            continue
        found[str(PurePosixPath(name))] = Expected("sha256", value.lower(), said_by)
    return found


def sums_beside(folder: Path) -> Mapping[str, Expected]:
    """What the checksum files in ``folder`` say of the files beside them. Raises OSError."""
    found: dict[str, Expected] = {}
    for path in sums_files(folder):
        if path.is_file() and path.stat().st_size <= MOST_BYTES:
            found |= parse_sums(path.read_text(errors="replace"), path.name)
    return found
