"""Where the engine itself listens, so that the same load can go to it past the gateway."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtests.coldstart.admin import Admin
from loadtests.target import Target, TargetError, base_url
from loadtests.wire import CallFailed, NotReachable, Refused, get_json

AUTO = "auto"
KEY_VARIABLE = "ROUNDHOUSE_DIRECT_KEY"


def direct_target(asked: str, service: Target, model: str, *, allow_remote: bool = False) -> Target:
    """``asked``: ``unix:/path``, a URL, or ``auto``: then the model is woken, and its first replica asked for.

    The service's own keys never go to an engine; one that wants a key has it in ROUNDHOUSE_DIRECT_KEY.
    Raises TargetError, CallFailed.
    """
    url = engine_of(Admin(service), model) if asked == AUTO else base_url(asked)
    found = Target(url, os.environ.get(KEY_VARIABLE, ""))
    if not found.loopback and not allow_remote:
        raise TargetError(f"{url} is not this machine; --allow-remote loads it all the same")
    served = _served(found)
    if model not in served:
        raise TargetError(f"--direct: {url} serves {', '.join(served) or 'nothing'}, not {model}")
    return found


def _served(engine: Target) -> list[str]:
    try:
        answer = get_json(engine, "/v1/models")
        return [str(entry["id"]) for entry in answer["data"]]
    except NotReachable as problem:
        raise TargetError(f"--direct: nothing answers at {engine.url} ({problem}); start the engine first") from None
    except Refused as refused:
        hint = f"; its key is read from {KEY_VARIABLE}" if refused.status in (401, 403) else ""
        raise TargetError(f"--direct: {engine.url}/v1/models answered {refused}{hint}") from None
    except (KeyError, TypeError):
        raise TargetError(f"--direct: {engine.url}/v1/models has no list of models; is this an engine?") from None


def engine_of(admin: Admin, model: str) -> str:
    """URL of the model's first replica that serves. Raises TargetError where nobody on this machine can reach it."""
    if not admin.target.admin_key:
        raise TargetError("the engine is found by the admin API: set ROUNDHOUSE_ADMIN_KEY, or name it: --direct URL")
    try:
        admin.wake(model)
        replicas = admin.replicas(model)
    except CallFailed as problem:
        raise TargetError(f"--direct: {model} has no engine ({problem}); name one: --direct URL") from None
    return _endpoint(model, [replica for replica in replicas if replica["state"] == "ready"])


def _endpoint(model: str, ready: Sequence[dict[str, Any]]) -> str:
    for replica in sorted(ready, key=lambda one: str(one["replica_id"])):
        endpoint = str(replica.get("endpoint") or "")
        if endpoint.startswith("unix:") and Path(endpoint.removeprefix("unix:")).is_socket():
            return endpoint
    raise TargetError(f"--direct: no replica of {model} listens on this machine; name an engine: --direct URL")


def fresh(admin: Admin, model: str) -> None:
    """One replica, begun now. Raises CallFailed."""
    admin.stop(model)
    admin.wake(model)
