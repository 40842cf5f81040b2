"""The model hub, through huggingface_hub's own client. The bytes are fetched here: its downloads begin anew when their
process was killed (since version 1.2 each process writes a file of its own), and these go on."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from models.weights.checksums import Expected
from models.weights.errors import NotHere, SourceRefused, TransferFailed, WeightsError
from models.weights.remote import SILENCE_S, Listing, RemoteFile
from models.weights.selection import check_name, is_wanted, refuse_pickles
from models.weights.urls import HubUrl

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

_TRUE = frozenset({"1", "on", "yes", "true"})
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
CLIENT_TIMEOUT_S = 30.0
# The hub serves at most 50 GB in one answer that names no range.
SEGMENT_BYTES = 32 * 2**30
CHUNK_BYTES = 128 * 1024  # what its client has not passed on yet is lost with the connection
log = logging.getLogger(__name__)


def is_offline(env: Mapping[str, str]) -> bool:
    return any(env.get(name, "").strip().lower() in _TRUE for name in OFFLINE_VARIABLES)


class HubRemote:
    """``env``: HF_ENDPOINT, HF_TOKEN; being offline is refused. Raises NotHere then."""

    def __init__(self, url: HubUrl, env: Mapping[str, str] = os.environ) -> None:
        if is_offline(env):
            raise NotHere("downloads are off (HF_HUB_OFFLINE)", "unset HF_HUB_OFFLINE for this command")
        self.url = url
        self._endpoint = env.get("HF_ENDPOINT") or None
        self._token = env.get("HF_TOKEN") or None
        self._commit = ""

    def listing(self) -> Listing:
        import huggingface_hub

        api = huggingface_hub.HfApi(endpoint=self._endpoint, token=self._token)
        try:
            info = api.model_info(
                self.url.repo, revision=self.url.revision, files_metadata=True, timeout=CLIENT_TIMEOUT_S
            )
        except Exception as error:  # the library's errors share no base class of their own, and changed twice
            raise self._explained(error) from error
        siblings = info.siblings or []
        names = [each.rfilename for each in siblings]
        refuse_pickles(name for name in names if is_wanted(name) or name.count("/") == 0)
        self._commit = str(info.sha)
        files = tuple(self._file(each) for each in siblings if is_wanted(each.rfilename))
        return Listing(self._commit, tuple(sorted(files, key=lambda file: file.name)))

    def _file(self, sibling: RepoSibling) -> RemoteFile:
        expected, size_bytes = None, sibling.size
        if sibling.lfs is not None:
            expected, size_bytes = Expected("sha256", sibling.lfs.sha256, "the hub"), sibling.lfs.size
        elif sibling.blob_id:
            expected = Expected("git-sha1", sibling.blob_id, "the hub")
        if size_bytes is None:
            raise TransferFailed(f"the hub does not say how large {sibling.rfilename} is", "try again later")
        return RemoteFile(check_name(sibling.rfilename), size_bytes, self._commit, expected)

    def read(self, file: RemoteFile, offset: int) -> tuple[int, Iterator[bytes]]:
        chunks = self._chunks(file, offset)
        began = next(chunks)
        assert isinstance(began, int)
        return began, chunks  # type: ignore[return-value]  # an int first, then bytes

    def _chunks(self, file: RemoteFile, offset: int) -> Iterator[int | bytes]:
        """First where the bytes begin, then the bytes: the connection lives as long as the iterator."""
        import huggingface_hub
        from huggingface_hub.utils import (  # type: ignore[attr-defined]  # its own documentation imports them from there
            build_hf_headers,
            get_session,
            hf_raise_for_status,
        )

        url = huggingface_hub.hf_hub_url(self.url.repo, file.name, revision=file.tag, endpoint=self._endpoint)
        headers = build_hf_headers(token=self._token) | {"accept-encoding": "identity"}
        place, first = offset, True
        try:
            while first or place < file.size_bytes:
                stop = min(place + SEGMENT_BYTES, file.size_bytes)
                ranged = {"range": f"bytes={place}-{stop - 1}"} if file.size_bytes else {}
                with get_session().stream("GET", url, headers=headers | ranged, timeout=SILENCE_S) as response:
                    hf_raise_for_status(response)
                    if response.status_code == 200:
                        place = 0
                    if first:
                        yield place
                        first = False
                    for chunk in response.iter_bytes(CHUNK_BYTES):
                        place += len(chunk)
                        yield chunk
                if place < stop:
                    raise TransferFailed(f"the hub broke off within {file.name}", "try again: it goes on from there")
        except WeightsError:
            raise
        except Exception as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> WeightsError:
        from huggingface_hub import errors

        match error:
            case errors.GatedRepoError():
                return SourceRefused("access to it must be asked for on the hub", "ask for it, then set HF_TOKEN")
            case errors.RepositoryNotFoundError():
                return SourceRefused("the hub has no such repository, or HF_TOKEN may not see it")
            case errors.RevisionNotFoundError():
                return SourceRefused(f"the repository has no revision {self.url.revision!r}")
            case errors.EntryNotFoundError():
                return SourceRefused("the hub lists a file that it does not have", "try again later")
        log.info("download of %s broke off: %s: %s", self.url, type(error).__name__, error)
        status: Any = getattr(getattr(error, "response", None), "status_code", None)
        what = f"HTTP {status}" if status else type(error).__name__
        return TransferFailed(f"the download failed ({what})", "check the network and try again")
