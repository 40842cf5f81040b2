"""``python -m models.control``: keeps the controller actor alive on a Ray cluster, and takes all down on SIGTERM."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from models.catalog.config import load_config
from models.catalog.errors import CatalogError
from models.control.actor import ControllerActor
from models.control.settings import ControlSettings
from models.fleet.devices import NoGpus, gpus_of_node
from models.fleet.ray_actors import NAMESPACE, actor_names, named_actor
from models.home import Home, node_name
from models.store.client import keys_from, redis_url
from models.store.errors import StoreError
from packers.types import NodeId

RAY_WAIT_S = 60.0
PING_S = 0.5
STOP_WAIT_S = 15.0


def main() -> int:
    """Exit 0 when stopped by a signal, 1 when Ray or the controller fails, 2 when the configuration is wrong."""
    args = _arguments()
    home = Home.find(args.home).create()
    try:
        settings = ControlSettings(
            home=str(home.root),
            config=os.path.abspath(args.config or home.config),
            redis_url=redis_url(home),
            redis_prefix=keys_from().prefix,
            gpus=args.gpus,
        )
        config = load_config(settings.config_path)
        gpus_of_node(NodeId(node_name()), settings.simulated(config))
    except (CatalogError, NoGpus, StoreError) as problem:
        print(f"roundhouse: {problem}", file=sys.stderr, flush=True)
        return 2
    stopping = threading.Event()

    def on_signal(_signum: int, _frame: FrameType | None) -> None:
        stopping.set()

    _stop_on(on_signal)
    if not _connect(args.ray_address, stopping):
        return 1
    _stop_on(on_signal)  # ray.init has put its own handlers in place
    return _keep(settings, stopping)


def _stop_on(handler: Callable[[int, FrameType | None], None]) -> None:
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, handler)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.control", description=__doc__)
    parser.add_argument("--home", help="state folder (default: ROUNDHOUSE_HOME or .roundhouse)")
    parser.add_argument("--config", help="roundhouse.yaml (default: the one in the state folder)")
    parser.add_argument("--ray-address", default="auto")
    parser.add_argument("--gpus", help="simulated GPUs instead of the configured ones, such as 2x1GiB@20GiB/s")
    return parser.parse_args()


def _connect(address: str, stopping: threading.Event) -> bool:
    """Join the Ray cluster, waiting for it to come up."""
    deadline = time.monotonic() + RAY_WAIT_S
    while not stopping.is_set():
        try:
            ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
            return True
        except (ConnectionError, RuntimeError, RayError) as problem:
            if time.monotonic() > deadline:
                print(f"roundhouse: Ray at {address} does not answer: {problem}", file=sys.stderr, flush=True)
                return False
            stopping.wait(0.2)
    return False


def _controller(settings: ControlSettings) -> Any:
    """On this machine, where the configuration is: Ray puts detached actors on any node, at each restart."""
    here = ray.get_runtime_context().get_node_id()
    return named_actor(ControllerActor, "controller", settings, ray_node=here, restart=True)


def _keep(settings: ControlSettings, stopping: threading.Event) -> int:
    controller = _controller(settings)
    announced = False
    while not stopping.is_set():
        try:
            pid = ray.get(controller.ready.remote(), timeout=RAY_WAIT_S)
            if not announced:
                print(f"controller ready, pid {pid}", flush=True)
                announced = True
        except RayTaskError as problem:
            print(f"roundhouse: the controller could not start: {problem.cause}", file=sys.stderr, flush=True)
            ray.kill(controller)
            return 1
        except RayActorError:
            controller = _controller(settings)
        except RayError as problem:
            print(f"roundhouse: the controller does not answer: {problem}", file=sys.stderr, flush=True)
        stopping.wait(PING_S)
    _take_down(controller)
    return 0


def _take_down(controller: Any) -> None:
    """The controller ends every engine and says so in the store; then the actors go."""
    try:
        ray.get(controller.shutdown.remote(), timeout=STOP_WAIT_S)
    except RayError as problem:
        print(f"roundhouse: the controller did not shut down in order: {problem}", file=sys.stderr, flush=True)
    for name in actor_names():
        with contextlib.suppress(RayError, ValueError):
            ray.kill(ray.get_actor(name, namespace=NAMESPACE))
    ray.shutdown()


if __name__ == "__main__":
    sys.exit(main())
