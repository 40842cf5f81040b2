"""What a machine writes down when it leads a cluster, joins one, or is alone again."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from models import cluster, secret
from models.cluster import Cluster
from models.fleet import node_file
from models.fleet.node_file import NodeFile
from models.home import Home, node_name


def identity(home: Home) -> str:
    """Of this machine in its cluster: the one it had, if it had one. Raises ClusterFileError."""
    before = cluster.read(home)
    return before.identity if before is not None else secrets.token_hex(16)


def known_name(home: Home) -> str:
    """The name this machine has had, or else its usual one. Raises OSError, msgspec.MsgspecError."""
    return node_file.read(home.node_file, otherwise=node_name()).name


def lead(home: Home, led: Cluster, name: str) -> None:
    """Raises OSError, NoSecret."""
    secret.make(home.cluster_secret)
    NodeFile(name=name, address=led.head).write(home.node_file)
    led.write(home)


def join(home: Home, joined: Cluster, here: NodeFile, shared: str) -> None:
    """Raises OSError."""
    _write_secret(home.cluster_secret, shared)
    here.write(home.node_file)
    joined.write(home)


def alone(home: Home) -> Cluster | None:
    """The cluster that this machine belongs to no more. The secret stays: it may lead again. Raises OSError."""
    try:
        before = cluster.read(home)
    except cluster.ClusterFileError:
        before = None
    for path in (cluster.file(home), home.node_file):
        path.unlink(missing_ok=True)
    return before


def _write_secret(path: Path, shared: str) -> None:
    beside = path.with_suffix(".new")
    beside.unlink(missing_ok=True)
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(shared)
    beside.rename(path)
