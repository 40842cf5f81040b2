"""See ``gateway.service.door.server``."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

from aiohttp import web

from gateway.service import ray_head
from gateway.service.door.register import Register
from gateway.service.door.server import Door
from gateway.service.door.words import own_versions
from models import cluster, secret
from models.catalog.config import load_config
from models.catalog.errors import CatalogError
from models.home import Home, node_name


def main() -> int:
    """Exit 1 when it cannot listen, 2 when this machine leads no cluster."""
    given = _arguments()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    home = Home.find(given.home)
    try:
        led = cluster.read(home)
        key = secret.key(secret.read(home.cluster_secret), "door")
    except (cluster.ClusterFileError, secret.NoSecret) as problem:
        sys.stderr.write(f"roundhouse: {problem}\n")
        return 2
    if led is None or not led.leads:
        sys.stderr.write("roundhouse: this machine leads no cluster; it does after: roundhouse cluster lead ADDRESS\n")
        return 2
    register = Register(home.root / "cluster-nodes.json", node_name(), led.head, time.monotonic())
    door = Door(
        key=key,
        head=led.head,
        versions=own_versions(),
        register=register,
        session=lambda: ray_head.session(home),
        simulated=lambda: True if given.simulated else _simulated(given.config),
        own_redis=led.own_redis,
        url=given.url,
    )
    try:
        web.run_app(door.app(), host=led.head, port=led.port, print=None, access_log=None)
    except OSError as problem:
        sys.stderr.write(f"roundhouse: cannot listen on {led.head} port {led.port}: {problem.strerror or problem}\n")
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gateway.service.door", description=__doc__)
    parser.add_argument("--home", help="state folder (default: ROUNDHOUSE_HOME or .roundhouse)")
    parser.add_argument("--config", type=Path, required=True, help="the configuration that the controller reads")
    parser.add_argument("--simulated", action="store_true", help="nodes that name no GPUs have simulated ones")
    parser.add_argument("--url", help="of this machine's gateway, where others can reach it")
    return parser.parse_args()


def _simulated(config: Path) -> bool | None:
    try:
        return load_config(config).simulated is not None
    except CatalogError:
        return None


if __name__ == "__main__":
    sys.exit(main())
