"""A small model hub: what the real client asks for, answered from memory."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.models.weights.serving import Files, Handler, serving

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub(Files):
    """One repository at one commit. ``sums``: SHA-256 that it names where they are not those of the files."""

    repo: str = "org/tiny"
    commit: str = COMMIT
    gated: bool = False
    sums: dict[str, str] = field(default_factory=dict)


@contextmanager
def hub_of(files: dict[str, bytes]) -> Iterator[Hub]:
    hub = Hub(dict(files))
    with serving(hub, HubHandler):
        yield hub


class HubHandler(Handler):
    def answer(self, with_body: bool) -> None:
        hub: Hub = self.server.content
        hub.asked += 1
        path, _, _ = self.path.partition("?")
        revision = re.search(r"/(?:revision|resolve|tree)/([^/]+)", path)
        if not path.startswith((f"/api/models/{hub.repo}", f"/{hub.repo}/resolve/")):
            self.send(404, b"{}", {"x-error-code": "RepoNotFound"}, with_body)
        elif hub.gated:
            self.send(403, b"{}", {"x-error-code": "GatedRepo"}, with_body)
        elif revision is not None and revision[1] not in ("main", hub.commit):
            self.send(404, b"{}", {"x-error-code": "RevisionNotFound"}, with_body)
        elif path.startswith("/api/"):
            self.send(200, _listing(hub), {"content-type": "application/json"}, with_body)
        else:
            self._file(hub, path.split("/", 5)[5], with_body)

    def _file(self, hub: Hub, name: str, with_body: bool) -> None:
        if name not in hub.files:
            self.send(404, b"", {"x-error-code": "EntryNotFound", "x-repo-commit": hub.commit}, with_body)
            return
        self.send_file(name, {"etag": f'"{_git_sha1(hub.files[name])}"', "x-repo-commit": hub.commit}, with_body)


def _listing(hub: Hub) -> bytes:
    siblings: list[dict[str, Any]] = []
    for name, content in hub.files.items():
        sibling: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": _git_sha1(content)}
        if name.endswith(".safetensors"):
            sha256 = hub.sums.get(name, hashlib.sha256(content).hexdigest())
            sibling["lfs"] = {"size": len(content), "sha256": sha256, "pointerSize": 134}
        elif name in hub.sums:
            sibling["blobId"] = hub.sums[name]
        siblings.append(sibling)
    return json.dumps({"id": hub.repo, "sha": hub.commit, "siblings": siblings, "private": False}).encode()


def _git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
