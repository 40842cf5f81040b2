"""Weights that lie in the page cache, read by the device from there: no copy of them on the host besides.

A library that loads weights maps the file privately. Pinning such a mapping would make the kernel copy every page, so
the same file is mapped once more, shared and read-only, and that mapping is registered with the device: every replica
on the node pins the very same pages.
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from models.cuda.calls import CannotRegister, CudaCalls

log = logging.getLogger("roundhouse.engine")

_HEAD = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) (\d+)\s*(.*)$")
_ANONYMOUS = re.compile(r"^Anonymous:\s+(\d+) kB$")


@dataclass(frozen=True, slots=True)
class FileMapping:
    """A stretch of this process's addresses that shows a file, as the kernel lists it."""

    start: int
    end: int
    offset_bytes: int
    device: int
    inode: int
    path: str
    changed_bytes: int  # private pages that no longer show the file

    @property
    def file(self) -> tuple[int, int]:
        return self.device, self.inode


def file_mappings(smaps: str) -> tuple[FileMapping, ...]:
    """From the text of /proc/PID/smaps; memory without a file is left out."""
    found: list[FileMapping] = []
    in_file = False
    for line in smaps.splitlines():
        head = _HEAD.match(line)
        if head:
            start, end, _, offset, major, minor, inode, path = head.groups()
            in_file = inode != "0"
            if in_file:
                device = os.makedev(int(major, 16), int(minor, 16))
                found.append(FileMapping(int(start, 16), int(end, 16), int(offset, 16), device, int(inode), path, 0))
        elif in_file:
            anonymous = _ANONYMOUS.match(line)
            if anonymous:
                found[-1] = replace(found[-1], changed_bytes=int(anonymous[1]) * 1024)
    return tuple(found)


def own_mappings() -> tuple[FileMapping, ...]:
    return file_mappings(Path("/proc/self/smaps").read_text())


class CannotMap(Exception):
    """A file cannot be mapped as it was when the weights were read from it; the message says why."""


class MappedFile:
    """A whole file, mapped shared and read-only. ``pinned``: the device reads it where it lies."""

    def __init__(self, mapping: FileMapping) -> None:
        """The file behind ``mapping``. Raises CannotMap when its path leads to another file by now."""
        try:
            descriptor = os.open(mapping.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as problem:
            raise CannotMap(f"{os.path.basename(mapping.path)} is gone: {problem.strerror}") from problem
        try:
            status = os.fstat(descriptor)
            if status.st_ino != mapping.inode:
                raise CannotMap(f"{os.path.basename(mapping.path)} was replaced")
            self.size_bytes = status.st_size
            self._mapping = mmap.mmap(descriptor, self.size_bytes, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)
        self.name = os.path.basename(mapping.path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch has no read-only tensors; nothing writes to this one
            self.bytes = torch.frombuffer(self._mapping, dtype=torch.uint8)
        self.address = self.bytes.data_ptr()
        self.pinned = False

    def pin(self, calls: CudaCalls) -> str:
        """Why it cannot be, "" when it is. Reads what is not in the page cache yet."""
        _populate(self.address, self.size_bytes)
        try:
            calls.register(self.address, self.size_bytes, read_only=True)
        except CannotRegister as problem:
            log.info("%s stays pageable: %s", self.name, problem)
            return str(problem)
        self.pinned = True
        return ""

    def unpin(self, calls: CudaCalls) -> None:
        if self.pinned:
            calls.unregister(self.address)
            self.pinned = False


def _populate(address: int, size_bytes: int) -> None:
    """Ask for the file's pages at once rather than one by one; a kernel that cannot will do that later."""
    populate_read = 22  # MADV_POPULATE_READ, since Linux 5.14
    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(size_bytes), ctypes.c_int(populate_read))


def holding(mappings: Iterable[FileMapping], begin: int, end: int) -> FileMapping | None:
    """The unchanged mapping that shows all bytes from ``begin`` to ``end``, if there is one."""
    for mapping in mappings:
        if mapping.start <= begin and end <= mapping.end:
            return mapping if mapping.changed_bytes == 0 else None
    return None
