"""Weights as an engine computes with them, in one file that every replica maps.

``<key>.safetensors`` is an ordinary safetensors file; ``<key>.json`` beside it is its ``Manifest``. Large tensors begin
at whole cache lines, and the file is written in whole huge pages: where the file system allows it, the page cache then
holds it in huge pages, and mapping a gigabyte takes a millisecond. Nothing here knows vLLM.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import json
import logging
import math
import mmap
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import torch

from models.runtimes import model_folder
from models.runtimes.model_folder import LENGTH_BYTES, TensorEntry
from models.runtimes.protocol import EngineError
from models.runtimes.vllm.canary import Answer

log = logging.getLogger("roundhouse.engine")

FORMAT: Final = 1
KEY_DIGITS = 24
ALIGNMENT = 64
PAGE = 4096
CHUNK_BYTES = 8 << 20  # a multiple of any huge page
POPULATE_STEP_BYTES = 64 << 20
MADV_POPULATE_READ = 22  # Linux 5.14
PARTIAL = ".partial"
PAD = "pad."  # of tensors that are nothing but distance

DTYPES: Mapping[torch.dtype, str] = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_TORCH = {name: dtype for dtype, name in DTYPES.items()}


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a layout promises of itself.

    ``facts``: what its key was made of. ``weights_bytes``: what the model's tensors take on a device. ``answers``: the
    verified canary's, by the settings that it was asked under. ``boot``: of the machine that wrote it; until the file
    is known to be on the disk, which its hash tells, it is worth nothing after another.
    """

    format: int
    key: str
    facts: dict[str, str]
    size_bytes: int
    tensors: int
    weights_bytes: int = 0
    sha256: str | None = None  # of the file; added some time after it was written
    boot: str = ""
    answers: dict[str, Answer] = {}


def layout_key(facts: Mapping[str, str]) -> str:
    """The name of the layout for ``facts``: whatever changes the file's content must be among them."""
    words = json.dumps({"format": FORMAT, **facts}, sort_keys=True)
    return hashlib.sha256(words.encode()).hexdigest()[:KEY_DIGITS]


def boot_id() -> str:
    """Of the machine's latest start; empty where the kernel does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class MappedFile:
    """A private mapping: its pages are the page cache's, shared by all who map it, until somebody writes to them."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        with path.open("rb") as file:
            self._mapping = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        self.size_bytes = len(self._mapping)
        with contextlib.suppress(OSError, AttributeError):
            self._mapping.madvise(mmap.MADV_HUGEPAGE)
        self._bytes = torch.frombuffer(self._mapping, dtype=torch.uint8)

    @property
    def address(self) -> int:
        return self._bytes.data_ptr()

    def view(self, begin: int, entry: TensorEntry) -> torch.Tensor:
        """The tensor at ``entry`` where the data begin at ``begin``: no copy."""
        first, last = (begin + offset for offset in entry.data_offsets)
        return self._bytes[first:last].view(_TORCH[entry.dtype]).view(entry.shape)

    def populate(self) -> None:
        """Have every page mapped, and read where it is not in memory yet. Blocks, without holding up other threads.

        Does nothing on a kernel that cannot: pages then come as they are touched.
        """
        advise = ctypes.CDLL(None, use_errno=True).madvise  # unlike mmap's own, it lets go of the interpreter
        for begin in range(0, self.size_bytes, POPULATE_STEP_BYTES):
            length = min(POPULATE_STEP_BYTES, self.size_bytes - begin)
            if advise(ctypes.c_void_p(self.address + begin), ctypes.c_size_t(length), MADV_POPULATE_READ):
                return


@dataclass(frozen=True, slots=True)
class Layout:
    """A file that was found whole, not mapped yet."""

    path: Path
    manifest: Manifest
    begin: int
    entries: Mapping[str, TensorEntry]

    def mapped(self) -> tuple[MappedFile, dict[str, torch.Tensor]]:
        """Raises OSError."""
        file = MappedFile(self.path)
        return file, {name: file.view(self.begin, entry) for name, entry in self.entries.items()}


def find_layout(folder: Path, key: str) -> Layout | None:
    """The whole and undamaged layout ``key``; one that is damaged counts as none and is told to the log."""
    path = folder / f"{key}.safetensors"
    if not path.exists():
        return None
    try:
        return _read(path, key)
    except (EngineError, OSError, ValueError, msgspec.DecodeError) as problem:
        log.warning("the stored layout %s is not used: %s", key, problem)
        return None


def _read(path: Path, key: str) -> Layout:
    """Raises EngineError, OSError, ValueError, msgspec.DecodeError."""
    manifest = msgspec.json.decode(manifest_path(path).read_bytes(), type=Manifest)
    if (manifest.format, manifest.key) != (FORMAT, key):
        raise ValueError("its manifest belongs to another")
    if manifest.sha256 is None and manifest.boot != boot_id():
        raise ValueError("the machine was restarted before it was on the disk")
    size_bytes = path.stat().st_size
    if size_bytes != manifest.size_bytes:
        raise ValueError(f"it has {size_bytes} bytes, its manifest says {manifest.size_bytes}")
    begin, tensors = model_folder.read_header(path)
    entries = {name: entry for name, entry in tensors.items() if not name.startswith(PAD)}
    for name, entry in entries.items():
        first, last = entry.data_offsets
        dtype = _TORCH.get(entry.dtype)
        if dtype is None or last - first != dtype.itemsize * math.prod(entry.shape):
            raise ValueError(f"its tensor {name} is no {entry.dtype} of {list(entry.shape)}")
    if len(entries) != manifest.tensors:
        raise ValueError(f"it has {len(entries)} tensors, its manifest says {manifest.tensors}")
    return Layout(path, manifest, begin, entries)


def manifest_path(path: Path) -> Path:
    return path.with_suffix(".json")


class LayoutWriter:
    """Writes a layout under a passing name; it is nobody's until ``publish``."""

    def __init__(self, folder: Path, key: str) -> None:
        """Raises OSError."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(folder)
        self.folder = folder
        self._key = key
        self._file, name = tempfile.mkstemp(dir=folder, prefix=f"{key}.", suffix=PARTIAL)
        fcntl.flock(self._file, fcntl.LOCK_EX)  # says that it is still being written
        self.path = Path(name)

    def write(self, tensors: Mapping[str, torch.Tensor]) -> Layout:
        """Returns the layout as it can be mapped now. Raises OSError, ValueError for a type that it has no name for."""
        entries = _lay_out(tensors)
        header = _header(entries)
        stream = _Stream(self._file)
        stream.put(torch.frombuffer(bytearray(header), dtype=torch.uint8))
        for name, entry in entries.items():
            size_bytes = entry.data_offsets[1] - entry.data_offsets[0]
            stream.put(_bytes_of(tensors[name]) if name in tensors else torch.zeros(size_bytes, dtype=torch.uint8))
        stream.flush()
        own = {name: entry for name, entry in entries.items() if name in tensors}
        manifest = Manifest(
            format=FORMAT, key=self._key, facts={}, size_bytes=stream.written, tensors=len(own), boot=boot_id()
        )
        return Layout(self.path, manifest, len(header), own)

    def publish(self, manifest: Manifest) -> Path:
        """Give the file its name; whoever looks for it from now on finds it whole. Raises OSError."""
        path = self.folder / f"{self._key}.safetensors"
        # The manifest of an older file would not fit this one, nor this one's an older file: between the two it counts
        # as damaged, which is right.
        write_manifest(path, manifest)
        os.replace(self.path, path)
        os.close(self._file)
        self.path = path
        return path

    def abandon(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self.path)
            os.close(self._file)


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Whole or not at all. Raises OSError."""
    words = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
    file, name = tempfile.mkstemp(dir=path.parent, prefix=f"{manifest.key}.", suffix=".new")
    with os.fdopen(file, "wb") as opened:
        opened.write(words)
    os.replace(name, manifest_path(path))


def seal(path: Path, manifest: Manifest) -> Manifest:
    """Have the file on the disk and its hash in its manifest. Takes a second or two a gigabyte. Raises OSError."""
    with path.open("rb") as file:
        os.fdatasync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    sealed = msgspec.structs.replace(manifest, sha256=digest)
    current = find_layout(path.parent, manifest.key)
    # Another replica may have put its own in this one's place.
    if current is not None and current.manifest == manifest:
        write_manifest(path, sealed)
    return sealed


def _sweep(folder: Path) -> None:
    """Remove what writers that were killed have left: nobody holds its lock any more."""
    for leftover in folder.glob(f"*{PARTIAL}"):
        with contextlib.suppress(OSError), leftover.open("rb") as file:
            if file.seek(0, os.SEEK_END) > 0:  # an empty one may be about to be locked
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                leftover.unlink()


def _lay_out(tensors: Mapping[str, torch.Tensor]) -> dict[str, TensorEntry]:
    """Where each tensor lies, in their order, with pads between: the format knows no gaps."""
    entries: dict[str, TensorEntry] = {}
    at = 0
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            raise ValueError(f"{name} is {tensor.dtype}")
        gap = -at % ALIGNMENT
        if gap:
            entries[f"{PAD}{len(entries)}"] = TensorEntry("U8", (gap,), (at, at + gap))
            at += gap
        end = at + tensor.nbytes
        entries[name] = TensorEntry(DTYPES[tensor.dtype], tuple(tensor.shape), (at, end))
        at = end
    return entries


def _header(entries: Mapping[str, TensorEntry]) -> bytes:
    """Length and JSON, filled up with spaces so that the data begin at a whole page."""
    words = json.dumps(
        {name: {"dtype": e.dtype, "shape": e.shape, "data_offsets": e.data_offsets} for name, e in entries.items()}
    ).encode()
    length = -(-(len(words) + LENGTH_BYTES) // PAGE) * PAGE - LENGTH_BYTES
    return length.to_bytes(LENGTH_BYTES, "little") + words.ljust(length)


def _bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


class _Stream:
    """Gathers what it is given into chunks that begin and end at whole huge pages."""

    def __init__(self, file: int) -> None:
        self.written = 0
        self._file = file
        self._chunk = torch.empty(CHUNK_BYTES, dtype=torch.uint8)
        self._filled = 0

    def put(self, content: torch.Tensor) -> None:
        while content.numel():
            if not self._filled and content.numel() >= CHUNK_BYTES:
                whole = content.numel() // CHUNK_BYTES * CHUNK_BYTES
                self._write(content[:whole])
                content = content[whole:]
                continue
            part = content[: CHUNK_BYTES - self._filled]
            self._chunk[self._filled : self._filled + part.numel()] = part
            self._filled += part.numel()
            content = content[part.numel() :]
            if self._filled == CHUNK_BYTES:
                self.flush()

    def flush(self) -> None:
        self._write(self._chunk[: self._filled])
        self._filled = 0

    def _write(self, content: torch.Tensor) -> None:
        numbers: Any = content.numpy()
        left = memoryview(numbers)
        while left:
            done = os.write(self._file, left[:CHUNK_BYTES])
            self.written += done
            left = left[done:]
