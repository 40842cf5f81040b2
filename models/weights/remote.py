"""The other side of an import, as the transfer sees it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from models.weights.checksums import Expected
from models.weights.urls import SourceUrl

CHUNK_BYTES = 2**20
SILENCE_S = 30.0  # without a byte for so long, the connection counts as lost


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """``tag``: changes with the content (a commit, an ETag); it is what a resumed read insists on."""

    name: str
    size_bytes: int
    tag: str
    expected: Expected | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """``version``: the same for the same content."""

    version: str
    files: tuple[RemoteFile, ...]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


class Remote(Protocol):
    @property
    def url(self) -> SourceUrl: ...

    def listing(self) -> Listing:
        """The wanted files of the source. Raises SourceRefused, TransferFailed."""

    def read(self, file: RemoteFile, offset: int) -> tuple[int, Iterator[bytes]]:
        """The file's bytes from ``offset`` on; where they really begin, 0 when the other side knows no ranges.

        Raises TransferFailed (also while the bytes are read), SourceRefused when the file is another one by now.
        """
