"""Which cluster a machine belongs to, and at which ports its parts are: written when it leads one or joins one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import msgspec

from models import secret
from models.home import Home

DEFAULT_PORT = 7470
# Ports from the door's on, the same on every node; Ray's workers have the last hundred.
PORTS = 150
WORKER_PORTS = 100
# By these the controller knows which machine a node of Ray's is, and where its state folder lies.
NAME_LABEL = "roundhouse/node"
HOME_LABEL = "roundhouse/home"
LONGEST_NAME = 63
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?", re.ASCII)

Role = Literal["head", "node"]


class ClusterFileError(Exception):
    """What the file says cannot be read; the message names it and the cure."""


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """``head``: the address at which all nodes reach the head. ``port``: where the door is that a machine joins by.

    ``identity``: of this machine in the cluster, drawn once; by it a machine that comes back is told from another one
    of its name. ``own_redis``: the head uses a Redis of the operator's own, which all machines name by themselves.
    """

    role: Role
    head: str
    identity: str
    port: int = DEFAULT_PORT
    own_redis: bool = False

    @property
    def leads(self) -> bool:
        return self.role == "head"

    @property
    def ray_port(self) -> int:
        """Of Ray's control service, on the head."""
        return self.port + 1

    @property
    def ray_address(self) -> str:
        return f"{self.head}:{self.ray_port}"

    @property
    def redis_port(self) -> int:
        """Of the embedded Redis, on the head."""
        return self.port + 2

    @property
    def ray_node_ports(self) -> dict[str, int]:
        """Of Ray's own processes on each node, by the names of the options of ``ray start``."""
        names = ("node-manager-port", "object-manager-port", "runtime-env-agent-port", "dashboard-agent-grpc-port")
        fixed = {name: self.port + 3 + offset for offset, name in enumerate((*names, "metrics-export-port"))}
        first = self.port + PORTS - WORKER_PORTS
        return {**fixed, "min-worker-port": first, "max-worker-port": first + WORKER_PORTS - 1}

    def write(self, home: Home) -> None:
        """Raises OSError."""
        beside = file(home).with_suffix(".new")
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")
        beside.rename(file(home))


def file(home: Home) -> Path:
    return home.root / "cluster.json"


def read(home: Home) -> Cluster | None:
    """None: this machine is alone. Raises ClusterFileError."""
    try:
        return msgspec.json.decode(file(home).read_bytes(), type=Cluster)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as problem:
        said = f"{file(home)} cannot be read: {problem}"
        raise ClusterFileError(f"{said}; remove it, then lead the cluster or join it again") from problem


def redis_password(home: Home) -> str | None:
    """What the embedded Redis of this machine's cluster asks for; None where it is on a unix socket alone.

    Raises ClusterFileError, NoSecret.
    """
    cluster = read(home)
    return None if cluster is None or cluster.own_redis else secret.key(secret.read(home.cluster_secret), "redis")


def wrong_name(name: str) -> str | None:
    """What is wrong with the name of a node; None when it is a good one."""
    if len(name) <= LONGEST_NAME and NAME.fullmatch(name):
        return None
    return f"a node's name has up to {LONGEST_NAME} letters, digits and . _ - inside, not {name[:80]!r}"
