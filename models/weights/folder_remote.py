"""A local folder that is copied: the same resumable, verified way as over a network."""

from __future__ import annotations

from collections.abc import Iterator

from models.weights.errors import SourceRefused, TransferFailed
from models.weights.remote import CHUNK_BYTES, Listing, RemoteFile
from models.weights.selection import check_name, model_files, refuse_pickles, sums_files
from models.weights.stats import FileStat, fingerprint
from models.weights.sums import sums_beside
from models.weights.urls import FolderUrl


class FolderRemote:
    def __init__(self, url: FolderUrl) -> None:
        self.url = url

    def listing(self) -> Listing:
        folder = self.url.folder
        try:
            files, sums = model_files(folder), sums_beside(folder)
            beside = {path.name: FileStat.of(path) for path in sums_files(folder)}
            names = [entry.name for entry in folder.iterdir()]
        except OSError as error:
            raise SourceRefused(f"the folder {folder} cannot be read ({error.strerror})") from None
        refuse_pickles([*names, *files])
        listed = tuple(
            RemoteFile(check_name(name), stat.size_bytes, _tag(stat), sums.get(name))
            for name, stat in sorted({**files, **beside}.items())
        )
        return Listing(fingerprint(folder, files), listed)

    def read(self, file: RemoteFile, offset: int) -> tuple[int, Iterator[bytes]]:
        path = self.url.folder / file.name
        try:
            if _tag(FileStat.of(path)) != file.tag:
                raise SourceRefused(f"the file {file.name} changed while it was copied", "try again")
        except OSError as error:
            raise TransferFailed(f"{file.name} cannot be read ({error.strerror})", "look at the disk") from None
        return offset, self._chunks(file, offset)

    def _chunks(self, file: RemoteFile, offset: int) -> Iterator[bytes]:
        try:
            with (self.url.folder / file.name).open("rb") as opened:
                opened.seek(offset)
                while chunk := opened.read(CHUNK_BYTES):
                    yield chunk
        except OSError as error:
            raise TransferFailed(f"{file.name} cannot be read ({error.strerror})", "look at the disk") from None


def _tag(stat: FileStat) -> str:
    return f"{stat.size_bytes}-{stat.mtime_ns}-{stat.inode}"
