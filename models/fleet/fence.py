"""Which controller a node obeys: the latest it has heard of. What an earlier one still says is refused."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.fleet.protocol import Superseded

LONGEST_BYTES = 32

log = logging.getLogger("roundhouse.fleet")


class Fence:
    """The highest epoch is in a file that all actors of a node share, so that one of them that is started again knows
    it, too. Where the file has been lost the next command sets it anew. Raises OSError when it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def obey(self, epoch: int) -> None:
        """A controller gives a command. Raises Superseded when a later one was heard."""
        highest = self.claim(epoch)
        if highest > epoch:
            raise Superseded(highest)

    def claim(self, epoch: int) -> int:
        """The highest epoch before; it is ``epoch`` from now on, if that is higher."""
        with self._held() as file:
            highest = self._read(file)
            if epoch > highest:
                # Over the lower one, in the room that it has: a disk that is full must not lose that.
                os.ftruncate(file, os.pwrite(file, b"%d\n" % epoch, 0))
        return highest

    @contextmanager
    def _held(self) -> Iterator[int]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(file)  # which ends the lock

    def _read(self, file: int) -> int:
        written = os.pread(file, LONGEST_BYTES, 0)
        try:
            return int(written or b"0")
        except ValueError:
            log.warning("%s holds %r, which is no epoch; it is written anew", self._path, written)
            return 0
