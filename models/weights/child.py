"""Fetches a source in a process of its own, for services: they are told not to use the network, and it is not."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from models.weights.errors import SourceRefused, TransferFailed, WeightsError
from models.weights.hub_remote import OFFLINE_VARIABLES
from models.weights.peers.remote import Peer
from models.weights.records import Progress, Struct

CODE_ROOT = Path(__file__).resolve().parents[2]
LONGEST_LINE_BYTES = 2**20


class Outcome(Struct, frozen=True):
    """The last line of ``python -m models.weights``: the folder, or why there is none."""

    folder: str | None = None
    error: str | None = None
    cure: str = ""
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Through:
    """Peers to ask first. ``download``: whether the source itself may be asked after them. ``me``: this node."""

    peers: tuple[Peer, ...]
    secret_file: Path
    me: str
    download: bool

    def arguments(self) -> list[str]:
        peers = msgspec.json.encode(self.peers).decode()
        found = ["--peers", peers, "--secret-file", str(self.secret_file), "--node", self.me]
        return found if self.download else [*found, "--peers-only"]


async def fetch_in_child(
    root: Path, source: str, tell: Callable[[Progress], None], through: Through | None = None
) -> Path:
    """Wait until the source is here. Raises WeightsError. When this is cancelled the child ends, and what has arrived
    stays for the next attempt."""
    env = {name: value for name, value in os.environ.items() if name not in OFFLINE_VARIABLES}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(CODE_ROOT), env.get("PYTHONPATH"))))
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "models.weights", "--root", str(root), "--source", source),
        *(through.arguments() if through is not None else ()),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env=env,
        limit=LONGEST_LINE_BYTES,
    )
    assert child.stdout is not None
    outcome = Outcome(error="the download ended without a word", cure="look into the log")
    try:
        async for line in child.stdout:
            if b'"phase"' in line:
                tell(msgspec.json.decode(line, type=Progress))
            else:
                outcome = msgspec.json.decode(line, type=Outcome)
        await child.wait()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if outcome.folder is None:
        raise _error(outcome)
    return Path(outcome.folder)


def _error(outcome: Outcome) -> WeightsError:
    kind = SourceRefused if outcome.refused else TransferFailed
    return kind(outcome.error or "the download failed", outcome.cure)
