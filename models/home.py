"""Where an installation keeps its state: one folder, and short paths for its unix sockets."""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

# A unix socket's path holds at most 107 bytes; Ray appends about 64 of its own below its folder, we at most 40.
RAY_ROOM = 64
LONGEST_SOCKET_PATH = 107
INSTANCE_ENV = "ROUNDHOUSE_INSTANCE"


def node_name() -> str:
    """The name of this node: ``ROUNDHOUSE_NODE`` or its host name."""
    return os.environ.get("ROUNDHOUSE_NODE") or socket.gethostname()


@dataclass(frozen=True, slots=True)
class Home:
    """Paths below ``ROUNDHOUSE_HOME``. ``run`` is outside of it when its path would be too long for sockets."""

    root: Path

    @classmethod
    def find(cls, given: str | os.PathLike[str] | None = None) -> Home:
        return cls(Path(given or os.environ.get("ROUNDHOUSE_HOME") or ".roundhouse").expanduser().resolve())

    @property
    def instance(self) -> str:
        """Marks every process of this installation in its environment (INSTANCE_ENV)."""
        return hashlib.sha256(str(self.root).encode()).hexdigest()[:12]

    @property
    def run(self) -> Path:
        inside = self.root / "run"
        if len(os.fsencode(inside / "ray")) + RAY_ROOM <= LONGEST_SOCKET_PATH:
            return inside
        return Path(tempfile.gettempdir()) / f"roundhouse-{os.getuid()}" / self.instance

    @property
    def redis_socket(self) -> Path:
        return self.run / "redis.sock"

    @property
    def redis_dir(self) -> Path:
        return self.root / "redis"

    @property
    def launcher_socket(self) -> Path:
        return self.run / "launcher.sock"

    @property
    def engines(self) -> Path:
        """Sockets of engines: ``<replica>.http`` and ``<replica>.ctl``."""
        return self.run / "e"

    @property
    def workers(self) -> Path:
        """Sockets of the gateway's workers, for each other: ``<number>.sock``."""
        return self.run / "w"

    @property
    def ray(self) -> Path:
        return self.run / "ray"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def engine_logs(self) -> Path:
        return self.logs / "engines"

    @property
    def spool(self) -> Path:
        """What gateway workers have metered and nobody has taken up yet (``gateway.metering``)."""
        return self.root / "spool"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def models(self) -> Path:
        """Demo models."""
        return self.root / "models"

    @property
    def weights(self) -> Path:
        """Downloaded weights, and weights as engines keep them (``models.weights``)."""
        return self.root / "weights"

    @property
    def config(self) -> Path:
        """The configuration in force when none is named."""
        return self.root / "roundhouse.yaml"

    @property
    def service_file(self) -> Path:
        """Written by the supervisor: its pid, its parts, the URL."""
        return self.run / "service.json"

    @property
    def node_file(self) -> Path:
        """What this machine is in its cluster (``models.fleet.node_file``)."""
        return self.root / "node.json"

    @property
    def cluster_secret(self) -> Path:
        """What all nodes of a cluster know and nobody else (``models.secret``)."""
        return self.root / "cluster.secret"

    @property
    def fence(self) -> Path:
        """The latest controller that this node obeys (``models.fleet.fence``)."""
        return self.run / "epoch"

    @property
    def cluster_id(self) -> Path:
        """By which the store tells this cluster from others (``models.control.office``)."""
        return self.root / "cluster.id"

    @property
    def lost_gpus(self) -> Path:
        """GPUs that count as lost, a line each: index and why (``models.fleet.gpu_watch``)."""
        return self.run / "lost-gpus"

    @property
    def reclaim_notice(self) -> Path:
        """Unix seconds at which this machine will be taken away, when somebody has left word of it here."""
        return self.run / "reclaim"

    @property
    def demo_env(self) -> Path:
        return self.root / "demo.env"

    def create(self) -> Home:
        """Make the folders, private to this user (0700)."""
        for folder in (
            self.root,
            self.run.parent,
            self.run,
            self.engines,
            self.engine_logs,
            self.redis_dir,
            self.cache,
        ):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.root, self.run, self.redis_dir):
            folder.chmod(0o700)
        return self

    def environment(self) -> dict[str, str]:
        """What every part of this installation gets in its environment."""
        return {
            "ROUNDHOUSE_HOME": str(self.root),
            INSTANCE_ENV: self.instance,
            "OMP_WAIT_POLICY": "PASSIVE",
            "MALLOC_ARENA_MAX": "2",
            "HF_HUB_OFFLINE": "1",
            # Ray and vLLM name their processes, and would write the names over the environment that marks them.
            "SPT_NOENV": "1",
        }
