"""From the command line of ``join`` to what is to be run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.cli import membership
from gateway.cli.errors import AskedWrongly, CliError
from gateway.cli.output import bytes_text
from gateway.service import formation
from gateway.service.door.words import Hello, Welcome, own_versions
from gateway.service.options import GatewayOptions
from gateway.service.parts import Installation
from gateway.service.report import Event
from models.cluster import Cluster
from models.fleet.node_file import NodeFile
from models.home import Home


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """As on the command line; None: not named."""

    name: str | None = None
    address: str | None = None
    gpus: str | None = None
    pool: str | None = None
    host_memory: str | None = None
    notice: str | None = None


@dataclass(frozen=True, slots=True)
class Joining:
    """``gateway`` None: requests are answered elsewhere."""

    home: Home
    cluster: Cluster
    here: NodeFile
    welcome: Welcome
    shared: str = field(repr=False)
    gateway: GatewayOptions | None

    def write(self) -> None:
        """Raises CliError."""
        try:
            formation.join(self.home, self.cluster, self.here, self.shared)
        except OSError as problem:
            raise CliError(f"the state folder cannot be written: {problem}", code="state_folder") from None

    @property
    def installation(self) -> Installation:
        return Installation(
            home=self.home,
            config=self.home.config,
            gateway=self.gateway or GatewayOptions(),
            own_redis=True,
            cluster=self.cluster,
            serves=self.gateway is not None,
        )

    @property
    def url(self) -> str:
        """Of this machine's gateway, else of the head's; empty when neither is known."""
        return self.gateway.url if self.gateway is not None else self.welcome.url or ""

    def words(self) -> list[str]:
        """The same command line with all that was found out."""
        here = self.here
        words = [f"{self.cluster.head}:{self.cluster.port}", "--home", str(self.home.root)]
        words += ["--name", here.name, "--address", here.address]
        words += ["--gpus", here.gpus] if here.gpus is not None else []
        words += ["--pool", here.pool] if here.pool is not None else []
        words += ["--host-memory", f"{here.host_bytes}B"] if here.host_bytes is not None else []
        words += ["--notice", here.notice] if here.notice is not None else []
        given = self.gateway
        if given is not None:
            words += ["--gateway", "--host", given.host, "--port", str(given.port), "--workers", str(given.workers)]
        return words

    def event(self) -> Event:
        return Event(kind="serving", text=self.text(), data=self.document())

    def document(self) -> dict[str, Any]:
        here = self.here
        return {
            "state": "joined",
            "head": f"{self.cluster.head}:{self.cluster.port}",
            "node": here.name,
            "address": here.address,
            "gpus": here.gpus,
            "pool": here.pool,
            "host_bytes": here.host_bytes,
            "notice": here.notice,
            "home": str(self.home.root),
            "url": self.url or None,
            "gateway": self.gateway is not None,
        }

    def text(self) -> str:
        lines = [
            "",
            f"This machine is the node {self.here.name} of the cluster of {self.cluster.head}",
            f"  address  {self.here.address}{self._seen()}",
            f"  GPUs     {self._gpus()}",
        ]
        if self.here.host_bytes is not None:
            lines.append(f"  RAM      {bytes_text(self.here.host_bytes)} for sleeping models")
        lines.append(f"  gateway  {self.url or 'that of the head'}")
        lines += ["", "See it on the head: roundhouse status, gpus", "Leave the cluster: roundhouse down (here)"]
        return "\n".join(lines)

    def would(self) -> str:
        return f"would join:{self.text()}"

    def _seen(self) -> str:
        seen = self.welcome.seen_as
        return "" if seen == self.here.address else f" (the head sees it come from {seen})"

    def _gpus(self) -> str:
        pool = f", pool {self.here.pool}" if self.here.pool is not None else ""
        if self.here.gpus is not None:
            return f"simulated: {self.here.gpus}{pool}"
        return ("simulated ones, as configured" if self.welcome.simulated else "the real ones of this machine") + pool


def plan_join(
    given_home: Path | None,
    head: str,
    secret_file: Path | None,
    options: NodeOptions,
    serve: Callable[[bool], GatewayOptions] | None,
) -> Joining:
    """Asks the head. ``serve``: the gateway of this machine, given whether its GPUs are simulated. Raises CliError."""
    from gateway.cli.plan import check_python, create_home

    check_python()
    home = create_home(given_home)
    host, port = membership.at_port(head)
    joined = membership.new_member(home, host, port)
    shared = membership.read_secret(home, secret_file)
    here = _node(home, options, host)
    hello = Hello(name=here.name, identity=joined.identity, address=here.address, versions=own_versions(), joining=True)
    welcome = membership.ask_door(joined, hello, shared)
    if here.gpus is None:
        _check_gpus(welcome)
    joined = Cluster(role="node", head=host, port=port, identity=joined.identity, own_redis=welcome.own_redis)
    if serve is not None and welcome.own_redis:
        _check_redis()
    gateway = None if serve is None else serve(here.gpus is not None or welcome.simulated is True)
    return Joining(home, joined, here, welcome, shared, gateway)


def _node(home: Home, options: NodeOptions, head: str) -> NodeFile:
    from models.catalog.errors import UnitError
    from models.catalog.gpus import parse_gpus
    from models.catalog.units import parse_bytes

    name = membership.node_name(home, options.name)
    address = membership.way_to(head) if options.address is None else membership.at_port(options.address)[0]
    membership.own_address(address, "--address")
    try:
        if options.gpus is not None:
            parse_gpus(options.gpus)
    except UnitError as error:
        raise AskedWrongly(f"--gpus: {error.message}", code="invalid_gpus", cure=error.cure) from None
    try:
        host_bytes = None if options.host_memory is None else parse_bytes(options.host_memory)
    except UnitError as error:
        raise AskedWrongly(f"--host-memory: {error.message}", code="invalid_size", cure=error.cure) from None
    if host_bytes is not None and host_bytes > membership.ram_bytes():
        raise AskedWrongly(
            f"--host-memory: this machine has {bytes_text(membership.ram_bytes())} of RAM",
            code="invalid_size",
            cure="name what sleeping models may have of it; half if it is left out",
        )
    notice = membership.notice(options.notice)
    return NodeFile(
        name=name, address=address, gpus=options.gpus, pool=options.pool, host_bytes=host_bytes, notice=notice
    )


def _check_gpus(welcome: Welcome) -> None:
    """Where the configuration names no simulated ones, there have to be real ones. Raises CliError."""
    if welcome.simulated is not False:
        return
    from models.nvml import NvmlUnavailable, probe

    try:
        probe()
    except NvmlUnavailable as error:
        raise CliError(
            f"this machine has no GPU that can be used ({error})",
            code="no_gpu",
            cure="name simulated ones: --gpus 2x1GiB",
        ) from None


def _check_redis() -> None:
    import os

    from models.store.client import URL_ENV

    if not os.environ.get(URL_ENV, "").strip():
        raise AskedWrongly(
            "the cluster uses a Redis of your own, and a gateway here has to know it, too",
            code="invalid_setting",
            cure=f"set {URL_ENV} as on the head, or leave --gateway out",
        )
