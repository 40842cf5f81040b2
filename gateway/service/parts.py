"""The parts of an installation: what each is called, how it is run, what it needs, and when it is ready."""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from gateway.service import ray_head
from gateway.service.options import DRAIN_TIMEOUT_S as DRAIN_TIMEOUT_S
from gateway.service.options import GatewayOptions as GatewayOptions
from gateway.service.options import reachable as reachable
from gateway.service.probes import LogLine, file_appears, http_ok, launcher_is_warm, listens, never, redis_answers
from gateway.service.spec import PartSpec
from models.cluster import Cluster
from models.fleet import node_file
from models.home import Home, node_name
from models.store import exposed

SOURCE_ROOT = Path(__file__).resolve().parent.parent.parent
# What the user's shell may hold and would lead our Ray astray.
NOT_INHERITED = ("RAY_ADDRESS", "RAY_NAMESPACE", "RAY_RUNTIME_ENV_HOOK", "PYTHONHOME")


@dataclass(frozen=True, slots=True)
class Installation:
    """All that the parts are derived from.

    ``own_redis``, ``ray_address``: a server or a cluster of the operator's own is used instead of one started here.
    ``demo_models``: the folder in which the demo models are to be made first. ``gpus``: simulated ones, instead of the
    configured ones. ``cluster``: the one that this machine leads, or has joined; then ``config`` is nobody's, and there
    is a gateway only where ``serves``.
    """

    home: Home
    config: Path
    gateway: GatewayOptions = field(default_factory=GatewayOptions)
    gpus: str | None = None
    own_redis: bool = False
    ray_address: str | None = None
    demo_models: Path | None = None
    cluster: Cluster | None = None
    serves: bool = True

    @property
    def joined(self) -> bool:
        """To a cluster that another machine leads."""
        return self.cluster is not None and not self.cluster.leads

    @property
    def listens(self) -> tuple[tuple[str, int], ...]:
        """Addresses that have to be free before it starts."""
        gateway, cluster = self.gateway, self.cluster
        found = [(gateway.host, gateway.port), *([gateway.admin] if gateway.admin else [])] if self.serves else []
        if cluster is not None and cluster.leads:
            ports = (cluster.port, cluster.ray_port, *(() if self.own_redis else (cluster.redis_port,)))
            found += [(cluster.head, port) for port in ports]
        return tuple(found)


def part_names() -> tuple[str, ...]:
    """Parts that can be run one by one, each in the foreground."""
    return ("redis", "launcher", "ray", "control", "gateway", "meter", "door", "member")


def all_parts(of: Installation) -> tuple[PartSpec, ...]:
    """Those that this installation needs. Raises OSError when its folders cannot be written, NoSecret."""
    if of.joined:
        return (_launcher(of), _member(of), *([_gateway(of), _meter(of, ("gateway",))] if of.serves else []))
    parts = []
    if of.demo_models is not None:
        parts.append(_demo_models(of, of.demo_models))
    parts.append(_launcher(of))
    if not of.own_redis:
        parts.append(_redis(of))
    if of.ray_address is None:
        parts.append(_ray(of))
    if of.cluster is not None:
        parts.append(_door(of))
    present = tuple(part.name for part in parts)
    return (*parts, _gateway(of, present), _meter(of, (*present, "gateway", "control")), _control(of, present))


def part(of: Installation, name: str) -> PartSpec:
    """One part by its name, whether or not ``up`` would start it. Raises OSError, KeyError, NoSecret."""
    made: dict[str, Callable[[Installation], PartSpec]] = {
        "redis": _redis,
        "launcher": _launcher,
        "ray": _ray,
        "control": _control,
        "gateway": _gateway,
        "meter": _meter,
        "door": _door,
        "member": _member,
    }
    return made[name](of)


def environment(home: Home) -> dict[str, str]:
    """What every part runs in. It is passed on by all that they start, so that each process can be found by it.

    Raises OSError, msgspec.MsgspecError for a node file that cannot be read.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    return {
        **inherited,
        **home.environment(),
        "ROUNDHOUSE_NODE": node_file.read(home.node_file, otherwise=node_name()).name,
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": _python_path(inherited.get("PYTHONPATH", "")),
    }


def _python_path(inherited: str) -> str:
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    ours = [] if SOURCE_ROOT in installed else [str(SOURCE_ROOT)]
    return os.pathsep.join([*ours, *filter(None, inherited.split(os.pathsep))])


def _python(module: str, *arguments: object) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *map(str, arguments))


def _demo_models(of: Installation, root: Path) -> PartSpec:
    return PartSpec(
        name="demo-models",
        what="the demo's models, made once",
        command=_python("models.demo", root),
        ready=None,
        env=environment(of.home),
        start_timeout_s=600.0,
    )


def _redis(of: Installation) -> PartSpec:
    return PartSpec(
        name="redis",
        what="the embedded store",
        command=_python("models.store.server", "--home", of.home.root),
        ready=redis_answers(of.home.redis_socket, partial(exposed.password, of.home)),
        env=environment(of.home),
    )


def _launcher(of: Installation) -> PartSpec:
    return PartSpec(
        name="launcher",
        what="imports vLLM and torch once, forks the engines",
        command=_python("models.runtimes.launcher", "--socket", of.home.launcher_socket, "--scratch", of.home.cache),
        ready=launcher_is_warm(of.home.launcher_socket),
        env=environment(of.home),
        # Control stops the engines one by one, and it is the launcher that notices when they have ended.
        outlives=() if of.joined else ("control",),
        start_timeout_s=300.0,  # vLLM's files may have to come from a slow disk
    )


def _ray(of: Installation) -> PartSpec:
    home = of.home
    return PartSpec(
        name="ray",
        what="Ray's head node",
        command=ray_head.command(home, of.cluster),
        ready=file_appears(ray_head.started_file(home)),
        env={**environment(home), **ray_head.environment(home, of.cluster)},
        prepare=partial(ray_head.prepare, home),
        takes_all=True,
        # By then control has ended the actors; asked, Ray takes seconds to say goodbye to itself.
        stop_signal=signal.SIGKILL,
    )


def _control(of: Installation, present: tuple[str, ...] = ()) -> PartSpec:
    home = of.home
    arguments = [
        "--home",
        home.root,
        "--config",
        of.config,
        "--ray-address",
        of.ray_address or ray_head.address(home, of.cluster),
    ]
    if of.gpus:
        arguments += ["--gpus", of.gpus]
    announced = LogLine(home.logs / "control.log", "controller ready")
    joining = ray_head.environment(home, of.cluster) if of.ray_address is None else {}
    return PartSpec(
        name="control",
        what="the controller",
        command=_python("models.control", *arguments),
        ready=announced,
        env={**environment(home), **joining},
        needs=tuple(name for name in ("demo-models", "redis", "ray") if name in present),
        follows=("ray",) if "ray" in present else (),
        prepare=announced.prepare,
        start_timeout_s=120.0,
        stop_grace_s=25.0,  # it stops every engine first
    )


def _door(of: Installation) -> PartSpec:
    arguments = ["--home", of.home.root, "--config", of.config]
    arguments += ["--simulated"] if of.gpus else []
    arguments += ["--url", url] if (url := outside_url(of)) else []
    led = of.cluster
    return PartSpec(
        name="door",
        what="where other machines join the cluster",
        command=_python("gateway.service.door", *arguments),
        ready=listens(led.head, led.port) if led is not None else never,
        env=environment(of.home),
    )


def _member(of: Installation) -> PartSpec:
    return PartSpec(
        name="member",
        what="keeps Ray's node of this machine in the cluster",
        command=_python("gateway.service.member", "--home", of.home.root),
        ready=file_appears(ray_head.started_file(of.home)),
        env=environment(of.home),
        prepare=partial(ray_head.prepare, of.home),
        takes_all=True,
        stop_grace_s=6.0,  # Ray's node takes its leave of the head
    )


def outside_url(of: Installation) -> str | None:
    """Of the gateway, for other machines; None while it is on loopback."""
    host = of.gateway.host
    if of.cluster is None or host.startswith("127.") or host in ("localhost", "::1"):
        return None
    everywhere = reachable(host) != host
    return replace(of.gateway, host=of.cluster.head).url if everywhere else of.gateway.url


def _gateway(of: Installation, present: tuple[str, ...] = ()) -> PartSpec:
    given = of.gateway
    return PartSpec(
        name="gateway",
        what="the HTTP endpoint",
        command=_python("gateway.server", "--home", of.home.root, *given.words()),
        ready=http_ok(reachable(given.host), given.port, "/health", tls=given.tls is not None),
        env=environment(of.home),
        needs=("redis",) if "redis" in present else (),
        stop_grace_s=given.limits.drain_timeout_s + 2.0,
    )


def _meter(of: Installation, present: tuple[str, ...] = ()) -> PartSpec:
    announced = LogLine(of.home.logs / "meter.log", "meter ready")
    return PartSpec(
        name="meter",
        what="ships and settles what was used",
        command=_python("gateway.billing", "--home", of.home.root),
        ready=announced,
        env=environment(of.home),
        needs=("redis",) if "redis" in present else (),
        # Then what the last requests used, and what was on the GPUs, is in the store when its day is done.
        outlives=tuple(name for name in ("gateway", "control") if name in present),
        prepare=announced.prepare,
        stop_grace_s=5.0,
    )
