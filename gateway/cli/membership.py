"""Leading a cluster and joining one: every mistake that can be seen beforehand is found here, with its cure."""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gateway.cli.errors import AskedWrongly, CliError
from gateway.cli.output import say
from gateway.service import formation
from gateway.service.ports import free_port
from models import cluster, secret
from models.cluster import DEFAULT_PORT, PORTS, Cluster
from models.home import Home

if TYPE_CHECKING:
    from gateway.service.door.words import Hello, Welcome

LOWEST_PORT = 1024


@dataclass(frozen=True, slots=True)
class Led:
    """``cluster`` None: this machine is to be alone."""

    cluster: Cluster | None
    name: str

    def words(self) -> list[str]:
        if self.cluster is None:
            return []
        return ["--cluster", f"{self.cluster.head}:{self.cluster.port}", "--name", self.name]


def leading(home: Home, address: str | None, name: str | None) -> Led:
    """As asked for on the command line; nothing is written yet. Raises CliError."""
    if address is None:
        if name is not None:
            raise AskedWrongly("--name is of a machine in a cluster", code="usage", cure="say --cluster ADDRESS, too")
        _refuse_member(home)
        return Led(None, "")
    from gateway.cli.plan import uses_own_redis
    from gateway.service import ray_head

    _refuse_member(home)
    if ray_head.outside_address():
        raise AskedWrongly(
            f"{ray_head.ADDRESS_ENV} names a Ray cluster of your own, and --cluster would make another one",
            code="invalid_setting",
            cure=f"leave {ray_head.ADDRESS_ENV} out; or leave --cluster out, and start the nodes with that Ray",
        )
    host, port = at_port(address)
    own_address(host, "--cluster")
    identity = _identity(home)
    led = Cluster(role="head", head=host, port=port, identity=identity, own_redis=uses_own_redis(home))
    return Led(led, node_name(home, name))


def settle(home: Home, led: Led) -> None:
    """Written down for all parts to read. Raises CliError."""
    try:
        if led.cluster is not None:
            formation.lead(home, led.cluster, led.name)
            return
        before = formation.alone(home)
    except secret.NoSecret as problem:
        raise CliError(
            str(problem), code="no_secret", cure=f"remove {home.cluster_secret}: a new one is made"
        ) from None
    except OSError as problem:
        raise CliError(f"the state folder cannot be written: {problem}", code="state_folder") from None
    if before is not None:
        say(f"This machine led a cluster at {before.head}; without --cluster {before.head} it is alone, on loopback.")


def _refuse_member(home: Home) -> None:
    before = _read(home)
    if before is not None and not before.leads:
        raise AskedWrongly(
            f"{home.root} has joined the cluster of {before.head}",
            code="joined_already",
            cure=f"roundhouse join {before.head}; or another --home; or, to be alone: roundhouse cluster leave",
        )


def at_port(address: str) -> tuple[str, int]:
    """``ADDRESS`` or ``ADDRESS:PORT``, the address as IPv4; looked up when it is a name. Raises AskedWrongly."""
    host, _, given = address.partition(":")
    most = 65536 - PORTS
    if given and not (given.isdecimal() and LOWEST_PORT <= int(given) <= most):
        raise AskedWrongly(
            f"{address!r} names no port from {LOWEST_PORT} to {most}",
            code="invalid_address",
            cure=f"write ADDRESS or ADDRESS:PORT; {PORTS} ports from it on are used, usually from {DEFAULT_PORT}",
        )
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
    except OSError as problem:
        raise AskedWrongly(
            f"{host!r} is no IPv4 address, and no name of one: {problem.strerror or problem}",
            code="invalid_address",
            cure="write it as 10.0.0.1, or 10.0.0.1:7470",
        ) from None
    return str(found), int(given or DEFAULT_PORT)


def own_address(host: str, option: str) -> None:
    """Raises AskedWrongly for one at which no other machine reaches this one."""
    address = ipaddress.ip_address(host)
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        raise AskedWrongly(
            f"{option} {host}: no other machine reaches this one there",
            code="invalid_address",
            cure="name the address that this machine has in the network of the cluster; `ip addr` lists them",
        )
    try:
        free_port(host)
    except OSError as problem:
        raise AskedWrongly(
            f"{option} {host} is no address of this machine: {problem.strerror or problem}",
            code="invalid_address",
            cure="`ip addr` lists its addresses",
        ) from None


def node_name(home: Home, given: str | None) -> str:
    """Raises AskedWrongly for one that cannot be used, CliError when the one from before cannot be read."""
    try:
        name = formation.known_name(home) if given is None else given
    except (OSError, msgspec.MsgspecError) as problem:
        said = f"{home.node_file} cannot be read: {problem}"
        raise CliError(said, code="state_folder", cure="remove it, or say --name NAME") from None
    wrong = cluster.wrong_name(name)
    if wrong is not None:
        raise AskedWrongly(wrong, code="invalid_name", cure="choose another with --name")
    return name


def read_secret(home: Home, given: Path | None) -> str:
    """Raises AskedWrongly."""
    path = home.cluster_secret if given is None else given.expanduser()
    try:
        return secret.read(path)
    except secret.NoSecret as problem:
        cure = (
            "" if given is not None else "copy it from the head (`roundhouse cluster secret` there): --secret-file FILE"
        )
        raise AskedWrongly(str(problem), code="no_secret", cure=cure) from None


def ask_door(joined: Cluster, hello: Hello, shared: str) -> Welcome:
    """Raises CliError, with the head's own words where it refuses."""
    from gateway.service.door.client import DoorClient, DoorError

    try:
        return DoorClient(joined.head, joined.port, secret.key(shared, "door")).hello(hello)
    except DoorError as problem:
        raise CliError(str(problem), code=problem.code, cure=problem.cure) from None


def way_to(host: str) -> str:
    """This machine's address on the way to another one. Raises AskedWrongly."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))  # sends nothing
        except OSError as problem:
            raise AskedWrongly(
                f"there is no way to {host}: {problem.strerror or problem}",
                code="unreachable",
                cure="correct the head's address, or this machine's network",
            ) from None
        return str(probe.getsockname()[0])


def new_member(home: Home, head: str, port: int) -> Cluster:
    """Raises CliError."""
    before = _read(home)
    if before is not None and before.leads:
        raise AskedWrongly(
            f"{home.root} leads a cluster itself, at {before.head}",
            code="leads_already",
            cure="join from another --home; or, to lead no more: roundhouse cluster leave",
        )
    return Cluster(role="node", head=head, port=port, identity=_identity(home))


def _read(home: Home) -> Cluster | None:
    try:
        return cluster.read(home)
    except cluster.ClusterFileError as problem:
        raise CliError(str(problem), code="state_folder") from None


def _identity(home: Home) -> str:
    _read(home)
    return formation.identity(home)


def notice(given: str | None) -> str | None:
    """Raises AskedWrongly."""
    if given is None or given in ("aws", "gcp") or given.startswith(("http://", "https://")):
        return given
    raise AskedWrongly(
        f"--notice {given!r} is no place where word of a reclaim can be looked for",
        code="invalid_notice",
        cure="write aws, gcp, or an http:// URL that answers 200 once it is certain",
    )


def ram_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
