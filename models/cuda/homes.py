"""Where the bytes of sleeping weights live on the host: in the page cache if the device can read it there, else pooled.

1. A file in the page cache, mapped and unchanged, that the device may read: nothing is copied.
2. The pinned pool, one block for all that is left.
3. The file's mapping as it is, pageable, when the pool has no room: waking is slower, and says so.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from models.cuda.calls import CudaCalls
from models.cuda.copies import Extent
from models.cuda.mapped import CannotMap, FileMapping, MappedFile, holding
from models.cuda.pinned import Block, PinnedPool, PoolFull
from models.cuda.regions import aligned

log = logging.getLogger("roundhouse.engine")


@dataclass(frozen=True, slots=True)
class Home:
    """Host bytes of one piece, a view of ``source``."""

    bytes: torch.Tensor
    source: MappedFile | Block

    @property
    def extent(self) -> Extent:
        return Extent(self.bytes.data_ptr(), self.bytes.numel())


@dataclass
class Homes:
    """Finds a home for every piece, and gives all of them up together."""

    calls: CudaCalls
    pool: PinnedPool
    files: dict[tuple[int, int], MappedFile | None] = field(default_factory=dict)  # None: not to be used
    blocks: list[Block] = field(default_factory=list)

    def of(self, pieces: Sequence[torch.Tensor], mappings: Sequence[FileMapping]) -> tuple[Home, ...]:
        """``pieces``: flat uint8, on the host or on the device. Raises EngineError when there is no room."""
        found: list[Home | None] = [self._in_file(piece, mappings, pinned=True) for piece in pieces]
        homeless = [number for number, home in enumerate(found) if home is None]
        try:
            for number, home in zip(homeless, self.pooled([pieces[number] for number in homeless]), strict=True):
                found[number] = home
        except PoolFull as problem:
            for number in homeless:
                found[number] = self._in_file(pieces[number], mappings, pinned=False)
                if found[number] is None:
                    raise
            log.warning("weights stay pageable in their files: %s", problem)
        return tuple(home for home in found if home is not None)

    def pooled(self, pieces: Sequence[torch.Tensor]) -> tuple[Home, ...]:
        """Copies in one block of the pool. Raises EngineError."""
        if not pieces:
            return ()
        size_bytes = sum(aligned(piece.numel()) for piece in pieces)
        self.pool.reserve(size_bytes)
        block = self.pool.take(size_bytes, "the weights")
        self.blocks.append(block)
        homes, at = [], 0
        for piece in pieces:
            own = block.bytes[at : at + piece.numel()]
            own.copy_(piece)
            homes.append(Home(own, block))
            at += aligned(piece.numel())
        return tuple(homes)

    def give_up(self) -> None:
        """Nothing may show any of these bytes any more."""
        for file in self.files.values():
            if file is not None:
                file.unpin(self.calls)
        for block in self.blocks:
            self.pool.give_back(block)
        self.files.clear()
        self.blocks.clear()

    def _in_file(self, piece: torch.Tensor, mappings: Sequence[FileMapping], *, pinned: bool) -> Home | None:
        begin = piece.data_ptr()
        mapping = holding(mappings, begin, begin + piece.numel()) if piece.device.type == "cpu" else None
        file = self._file(mapping) if mapping else None
        if mapping is None or file is None or (pinned and not file.pinned):
            return None
        at = mapping.offset_bytes + begin - mapping.start
        return Home(file.bytes[at : at + piece.numel()], file)

    def _file(self, mapping: FileMapping) -> MappedFile | None:
        if mapping.file not in self.files:
            try:
                file = self.files[mapping.file] = MappedFile(mapping)
                file.pin(self.calls)
            except CannotMap as problem:
                log.info("%s", problem)
                self.files[mapping.file] = None
        return self.files[mapping.file]
