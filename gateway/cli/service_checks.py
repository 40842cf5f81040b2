"""What ``roundhouse doctor`` looks at of a service: its configuration, its port, and, when it runs, its parts."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.cli.checks import Check
from gateway.cli.config import read_config
from gateway.cli.errors import CliError
from gateway.cli.output import age_text
from gateway.service import ray_head, record
from gateway.service.demo import FILE_NAME
from gateway.service.ports import PortInUse, check_free
from gateway.service.probes import launcher_status
from models import cluster
from models.cluster import Cluster
from models.home import Home
from models.runtimes.protocol import FORCED


def config_path(home: Home) -> Path:
    """The file that ``up`` would take."""
    here = Path(FILE_NAME)
    return here if here.is_file() else home.config


def configuration(home: Home) -> Check:
    path = config_path(home)
    if _joined(home):
        return Check(name="configuration", verdict="ok", found="that of the cluster's head")
    if not path.exists():
        return Check(name="configuration", verdict="ok", found="none; `up` writes the demo's")
    try:
        config = read_config(path)
    except CliError as error:
        return Check(name="configuration", verdict="fail", found=error.message, cure=error.cure)
    return Check(name="configuration", verdict="ok", found=f"{path}, {len(config.models)} models")


def port(home: Home, number: int | None) -> Check:
    running = record.running(home)
    if running is not None and _joined(home) and all(part.name != "gateway" for part in running.parts):
        return Check(name="port", verdict="ok", found=f"none of its own: requests go to {running.url}")
    if running is not None:
        return Check(name="port", verdict="ok", found=f"this service has it: {running.url}")
    host, configured = _configured(home)
    wanted = configured if number is None else number
    try:
        check_free(host, wanted)
    except PortInUse as problem:
        return Check(name="port", verdict="fail", found=str(problem), cure="roundhouse up --port NUMBER")
    except OSError as problem:
        return Check(name="port", verdict="fail", found=f"{host}: {problem}", cure="correct gateway.host")
    return Check(name="port", verdict="ok", found=f"{wanted} is free on {host}")


def _joined(home: Home) -> bool:
    """It is a node of another machine's cluster."""
    try:
        found = cluster.read(home)
    except cluster.ClusterFileError:
        return False
    return found is not None and not found.leads


def _configured(home: Home) -> tuple[str, int]:
    from models.catalog.service import GatewaySettings

    here = Path(FILE_NAME)
    try:
        settings = read_config(here if here.is_file() else home.config).gateway
    except CliError:
        settings = GatewaySettings()  # what is wrong with the file is said elsewhere
    return settings.host, settings.port


def processes(home: Home) -> Check:
    """Whether something runs that nobody looks after."""
    holder = record.holder(home)
    count = len(record.processes(home))
    if holder is None and count:
        found = f"{count} processes are left from a service that is gone"
        return Check(name="processes", verdict="warn", found=found, cure="roundhouse down")
    if holder is None:
        return Check(name="processes", verdict="ok", found="the service does not run")
    return Check(name="processes", verdict="ok", found=f"the service runs, pid {holder.pid}, with {count} processes")


def launcher(home: Home) -> Check:
    """Asked over its socket, what it can start."""
    status = asyncio.run(launcher_status(home.launcher_socket))
    if not status:
        if record.holder(home) is None:
            return Check(name="launcher", verdict="ok", found="does not run; `up` starts it")
        cure = f"look at {home.logs / 'launcher.log'}"
        return Check(name="launcher", verdict="fail", found="does not answer", cure=cure)
    runtimes = status.get("runtimes")
    states = runtimes if isinstance(runtimes, dict) else {}
    found = ", ".join(f"{name} {state}" for name, state in states.items())
    if any(str(state).startswith("unavailable") for state in states.values()):
        cure = f"`make venv` installs what it lacks; if it is there, {home.logs / 'launcher.log'} says what broke"
        return Check(name="launcher", verdict="fail", found=found, cure=cure)
    problem = str(status.get("problem") or "")
    if status.get("ready") is not True and not problem:
        return Check(name="launcher", verdict="warn", found=f"still warming: {found}", cure="wait some seconds")
    if problem:
        cure = f"where it broke is in {home.logs / 'launcher.log'}"
        return Check(name="launcher", verdict="warn", found=problem, cure=cure)
    return Check(name="launcher", verdict="ok", found=f"{found}{_warm_process(status)}")


def engine_paths(home: Home) -> Check:
    """How the runtimes that can be run in more than one way are run, and why not in the fast one."""
    status = asyncio.run(launcher_status(home.launcher_socket))
    paths = status.get("paths")
    if not isinstance(paths, dict) or not paths:
        return Check(name="engine path", verdict="ok", found="known once the launcher is warm")
    found = ", ".join(f"{name} {path}" for name, path in paths.items())
    slow = {name: str(path) for name, path in paths.items() if str(path) != "fast"}
    if not slow:
        return Check(name="engine path", verdict="ok", found=found)
    if all(path.endswith(FORCED) for path in slow.values()):
        cure = "engines start in seconds instead of a fraction of one: unset ROUNDHOUSE_VLLM_PATH, then `down` and `up`"
    else:
        cure = (
            "models are served, but start in seconds instead of a fraction of one: install the vLLM that this release"
            f" was made for (`make venv`), then `down` and `up`; {home.logs / 'launcher.log'} has the details"
        )
    return Check(name="engine path", verdict="warn", found=found, cure=cure)


def _warm_process(status: dict[str, object]) -> str:
    spares, generation, age_s = (status.get(name) for name in ("spares", "generation", "age_s"))
    if not isinstance(age_s, int | float):
        return ""
    return f"; warm process {generation}, {age_text(age_s)} old, {spares} spare children"


def membership_of(home: Home) -> Cluster | None:
    """A file that cannot be read is another check's."""
    try:
        return cluster.read(home)
    except cluster.ClusterFileError:
        return None


def ray(home: Home) -> Check:
    outside = ray_head.outside_address()
    joined = membership_of(home)
    if outside is None and record.holder(home) is None:
        return Check(name="ray", verdict="ok", found="does not run; `up` starts it")
    address = outside or ray_head.address(home, joined)
    if asyncio.run(_listens(address)):
        return Check(name="ray", verdict="ok", found=f"listens at {address}")
    cure = "start it, or correct ROUNDHOUSE_RAY_ADDRESS" if outside else f"look at {home.logs / 'ray.log'}"
    return Check(name="ray", verdict="fail", found=f"nothing listens at {address}", cure=cure)


async def _listens(address: str) -> bool:
    host, _, number = address.removeprefix("ray://").rpartition(":")
    try:
        async with asyncio.timeout(2.0):
            _, writer = await asyncio.open_connection(host, int(number))
    except (OSError, TimeoutError, ValueError):
        return False
    writer.close()
    return True
