"""Text files line by line, plain or compressed. What cannot be read is the asker's mistake."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from gateway.cli.errors import AskedWrongly


def read_text_lines(path: Path) -> Iterator[str]:
    """Raises AskedWrongly naming the file, and the line where it breaks off."""
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            for line in file:
                number += 1
                yield line
    except UnicodeDecodeError:
        raise _unreadable(path, f"line {number + 1} is no text (UTF-8)") from None
    except (OSError, EOFError, zlib.error) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise _unreadable(path, f"{reason} (after line {number})" if number else reason) from None


def _unreadable(path: Path, reason: str) -> AskedWrongly:
    return AskedWrongly(f"{path} cannot be read: {reason}", code="file", cure="name a file that can be read")
