"""What ``roundhouse doctor`` looks at of a machine's cluster."""

from __future__ import annotations

import msgspec

from gateway.cli.checks import Check
from gateway.service.door.client import DoorClient, DoorError
from gateway.service.door.words import Hello, own_versions
from models import cluster, secret
from models.cluster import Cluster
from models.fleet import node_file
from models.home import Home, node_name

ASK_TIMEOUT_S = 3.0


def membership(home: Home) -> Check:
    """Whether what is written down can be read, and whether the head lets this machine in."""
    try:
        found = cluster.read(home)
        if found is None:
            return Check(name="cluster", verdict="ok", found="none: this machine is alone")
        key = secret.key(secret.read(home.cluster_secret), "door")
        here = node_file.read(home.node_file, otherwise=node_name())
    except cluster.ClusterFileError as problem:
        return Check(
            name="cluster", verdict="fail", found=str(problem), cure="roundhouse cluster leave; then join again"
        )
    except secret.NoSecret as problem:
        return Check(name="cluster", verdict="fail", found=str(problem), cure="roundhouse join HEAD --secret-file FILE")
    except (OSError, msgspec.MsgspecError) as problem:
        said = f"{home.node_file} cannot be read: {problem}"
        return Check(name="cluster", verdict="fail", found=said, cure="remove it, then lead or join again")
    if found.leads:
        return Check(name="cluster", verdict="ok", found=f"{here.name} leads it, at {found.head}:{found.port}")
    hello = Hello(name=here.name, identity=found.identity, address=here.address, versions=own_versions())
    return _at_door(found, hello, key)


def _at_door(found: Cluster, hello: Hello, key: str) -> Check:
    try:
        told = DoorClient(found.head, found.port, key, ASK_TIMEOUT_S).hello(hello)
    except DoorError as problem:
        return Check(name="cluster", verdict="fail", found=str(problem), cure=problem.cure)
    said = f"{hello.name} is a node of the cluster of {found.head}:{found.port}"
    if told.session is None:
        return Check(name="cluster", verdict="warn", found=f"{said}, whose Ray does not run", cure="look at it there")
    return Check(name="cluster", verdict="ok", found=said)
