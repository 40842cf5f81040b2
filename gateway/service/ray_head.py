"""How Ray's head node is run, and a node that joins it: with a token, small, silent, without usage reports.

For one machine it is on loopback; the head of a cluster is at the address by which the others reach it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from models import secret
from models.cluster import Cluster
from models.home import Home

ADDRESS_ENV = "ROUNDHOUSE_RAY_ADDRESS"
LOOPBACK = "127.0.0.1"
# Each one is a worker process of 90 MB that Ray keeps waiting: an actor that finds one starts 0.25 s sooner.
SPARE_WORKERS = 2
# A node without its head would end after a minute, and the keeper of its engines with it; whoever joined it to the head
# replaces it once there is another one.
HEADLESS_S = 7 * 24 * 3600
# The head gives up a node whose machine is gone after 25 s instead of 65, and none for a cable that was out for 10 s
# (``models.fleet.presence`` has what follows from it).
HEALTH_CHECKS = {
    "RAY_health_check_period_ms": "2000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "5",
}
# No object travels through Ray's store here; this is near the smallest that it accepts.
OBJECT_STORE_BYTES = 80 * 2**20


def outside_address(env: Mapping[str, str] = os.environ) -> str | None:
    """A Ray cluster of the operator's own, by ROUNDHOUSE_RAY_ADDRESS; then no head is started here."""
    return env.get(ADDRESS_ENV, "").strip() or None


def address(home: Home, joined: Cluster | None = None) -> str:
    """Where this installation's head listens: a free port that is chosen once and kept for all of its parts, or where
    its cluster's does."""
    return f"{LOOPBACK}:{_port(home)}" if joined is None else joined.ray_address


def started_file(home: Home) -> Path:
    """Ray writes it when the whole node runs."""
    return home.ray / "ray_current_cluster"


def command(home: Home, joined: Cluster | None = None) -> tuple[str, ...]:
    host, port = (LOOPBACK, _port(home)) if joined is None else (joined.head, joined.ray_port)
    own = {"port": port, "include-dashboard": "false"}
    return _start("--head", "--no-monitor", **own, **_node_options(home, host, joined))


def node_command(home: Home, joined: Cluster, host: str) -> tuple[str, ...]:
    """Of this machine's node in a cluster that another one leads. ``host``: where the others reach it."""
    return _start(address=joined.ray_address, **_node_options(home, host, joined))


def _node_options(home: Home, host: str, joined: Cluster | None) -> dict[str, object]:
    return {
        "node-ip-address": host,
        "temp-dir": home.ray,
        "include-log-monitor": "false",
        "dashboard-agent-listen-port": 0,  # the default is one fixed port for every Ray on the machine
        "num-cpus": SPARE_WORKERS,
        "num-gpus": 0,  # the packer places on GPUs, not Ray
        "object-store-memory": OBJECT_STORE_BYTES,
        "log-style": "record",
        "log-color": "false",
        **({} if joined is None else joined.ray_node_ports),
    }


def _start(*flags: str, **options: object) -> tuple[str, ...]:
    words = (f"--{name}={value}" for name, value in options.items())
    fixed = (sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats")
    return (*fixed, *flags, *words)


def environment(home: Home, joined: Cluster | None = None) -> dict[str, str]:
    """For the node, and for whatever joins it from this machine. Makes the token on first use.

    Raises OSError, NoSecret.
    """
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(_token_file(home) if joined is None else _shared_token(home)),
        # Ray replaces a loopback address by the machine's own and listens on every interface, unless it believes that
        # this system has no clusters.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0" if joined is None else "1",
        # Labels, and no Ray Client server, which has no switch of its own and a fixed port.
        "RAY_START_HOOK": "gateway.service.ray_hook.on_start",
        "RAY_USAGE_STATS_ENABLED": "0",
        # It would kill actors when the page cache makes the machine look full; engines are not Ray's processes anyway.
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_enable_metrics_collection": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # says in advance what the next Ray does, instead of warning of it
        "RAY_DEDUP_LOGS": "0",
        **({} if joined is None else HEALTH_CHECKS),
        **({} if joined is None or joined.leads else {"RAY_gcs_rpc_server_reconnect_timeout_s": str(HEADLESS_S)}),
    }


def session(home: Home) -> str | None:
    """Of the head that runs now: another one has another. None while it does not run."""
    try:
        return (home.ray / "session_latest").readlink().name if started_file(home).exists() else None
    except OSError:
        return None


def prepare(home: Home) -> None:
    """Clear away what an earlier head left: sockets, logs, and the file that says it runs. Raises OSError."""
    if home.ray.exists():
        shutil.rmtree(home.ray)
    home.ray.mkdir(mode=0o700, parents=True)


def _token_file(home: Home) -> Path:
    path = home.root / "ray.token"
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    except FileExistsError:
        path.chmod(0o600)
    return path


def _shared_token(home: Home) -> Path:
    """The same on every node, for each makes it from the cluster's secret."""
    path = home.root / "ray-cluster.token"
    if not home.cluster_secret.exists():  # nothing is about to be run: it is made, or copied, before
        return path
    token = secret.key(secret.read(home.cluster_secret), "ray")
    if not path.exists() or path.read_text() != token:
        beside = path.with_suffix(".new")
        beside.unlink(missing_ok=True)
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token)
        beside.rename(path)
    path.chmod(0o600)
    return path


def _port(home: Home) -> int:
    chosen = home.run / "ray.port"
    try:
        return int(chosen.read_text())
    except (OSError, ValueError):
        pass
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        port = int(free.getsockname()[1])
    chosen.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    chosen.write_text(f"{port}\n")
    return port


def choose_port_again(home: Home) -> None:
    """Before a start: what was free once may be taken by now."""
    (home.run / "ray.port").unlink(missing_ok=True)
