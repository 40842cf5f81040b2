"""What ``roundhouse doctor`` looks at of the store: whose keys are in it, and what nobody can read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.cli.checks import Check, Verdict
from models.home import Home

if TYPE_CHECKING:
    import redis

    from models.store.keys import Keys


def stored(home: Home) -> Check:
    """Needs a server that runs: the embedded one does while the service does."""
    from redis import RedisError

    from gateway.service import record
    from models.store.client import PREFIX_ENV, connect, keys_from, redis_url
    from models.store.errors import StoreError

    try:
        client, keys = connect(redis_url(home)), keys_from()
    except StoreError as problem:
        return Check(name="stored", verdict="fail", found=str(problem), cure=f"correct {PREFIX_ENV} or the URL")
    try:
        problems = look(client, keys, home)
    except RedisError as problem:
        if record.running(home) is None:
            return Check(name="stored", verdict="ok", found="known once Redis runs")
        found = f"Redis does not answer although the service runs: {problem}"
        return Check(name="stored", verdict="fail", found=found, cure="roundhouse logs redis; docs/operations.md")
    finally:
        client.close()
    if not problems:
        return Check(name="stored", verdict="ok", found=f"under {keys.prefix!r} lies what belongs there")
    worst, cures = problems[0][0], "; ".join(cure for _, _, cure in problems)
    return Check(name="stored", verdict=worst, found="; ".join(found for _, found, _ in problems), cure=cures)


def look(client: redis.Redis, keys: Keys, home: Home) -> list[tuple[Verdict, str, str]]:
    """(verdict, what was found, the cure), the worst first. Raises RedisError."""
    from models.store.client import PREFIX_ENV
    from models.store.inspection import foreign, kinds, owner

    names, problems = list(kinds(keys)), list[tuple[Verdict, str, str]]()
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.type(name)
        said = dict(zip(names, (kind.decode() for kind in pipe.execute()), strict=True))
    if wrong := foreign(said, keys):
        problems.append(("fail", "; ".join(wrong), f"set {PREFIX_ENV} to a name of its own, or delete those keys"))
    other = owner(client.get(keys.cluster), keys) if said[keys.cluster] == "string" else None
    own = home.cluster_id.read_text().strip() if home.cluster_id.exists() else ""
    if other is not None and own and other.cluster_id != own:
        found = f"the keys under {keys.prefix!r} are another cluster's, which has its head on {other.host}"
        problems.append(("fail", found, f"set {PREFIX_ENV} to a name of its own"))
    aside = sorted(name.decode() for name in client.scan_iter(match=keys.set_aside(f"{keys.prefix}:*"), count=1000))
    if aside:
        found = f"set aside because it could not be read: {', '.join(aside)}"
        problems.append(("warn", found, "look at it, then delete it"))
    return problems
