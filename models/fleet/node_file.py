"""What a machine is in its cluster: written when it joins (or leads), read by its node actor."""

from __future__ import annotations

from pathlib import Path

import msgspec

LOOPBACK = "127.0.0.1"


class NodeFile(msgspec.Struct, frozen=True, kw_only=True):
    """``address``: where other nodes reach it. ``gpus``: simulated ones, as on the command line; None: as configured.

    ``pool``: that its GPUs belong to where the configuration names no other. ``host_bytes``: RAM for sleeping replicas;
    None: as configured. ``notice``: where word of a coming reclaim is looked for besides ``Home.reclaim_notice``: the
    metadata service of a cloud (``aws``, ``gcp``), or an URL that answers 200 once it is certain.
    """

    name: str
    address: str = LOOPBACK
    gpus: str | None = None
    pool: str | None = None
    host_bytes: int | None = None
    notice: str | None = None

    @property
    def alone(self) -> bool:
        """Other machines cannot reach it."""
        return self.address == LOOPBACK

    def write(self, path: Path) -> None:
        """Raises OSError."""
        beside = path.with_suffix(".new")
        beside.write_bytes(msgspec.json.encode(self))
        beside.rename(path)


def read(path: Path, *, otherwise: str) -> NodeFile:
    """``otherwise``: its name when nothing was written. Raises OSError, msgspec.MsgspecError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=NodeFile)
    except FileNotFoundError:
        return NodeFile(name=otherwise)
    except UnicodeDecodeError as problem:
        raise msgspec.DecodeError(str(problem)) from problem
