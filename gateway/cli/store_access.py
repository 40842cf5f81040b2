"""Commands that go straight to the store, so that they work before and without a gateway."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from gateway.cli.errors import AskedWrongly, CliError
from gateway.cli.options import HomeFolder
from gateway.cli.output import show_json, show_text

if TYPE_CHECKING:
    import redis

    from models.home import Home
    from models.store.audit import Who
    from models.store.errors import TenancyRefused
    from models.store.keys import Keys
    from models.store.tenants import Edit, Tenancy

T = TypeVar("T")
NOT_FOUND = "_not_found"


def changed(
    home: HomeFolder, work: Callable[[Tenancy, float], tuple[Sequence[Edit], T]], *, dry_run: bool = False
) -> T:
    """What ``work`` makes of all that is known now (and the time, Unix seconds); nothing is written on a dry run.

    Raises CliError.
    """
    from models.store.errors import ChangedMeanwhile, TenancyRefused
    from models.store.tenants import change, read_tenancy

    now_s = time.time()
    with store(home) as (client, keys):
        try:
            if dry_run:
                return work(read_tenancy(client, keys), now_s)[1]
            return change(client, keys, who(), now_s, lambda known: work(known, now_s))
        except TenancyRefused as refused:
            raise cli_error(refused) from None
        except ChangedMeanwhile as overtaken:
            raise CliError(str(overtaken), code="changed_meanwhile") from None


def known(home: HomeFolder) -> Tenancy:
    """Raises CliError."""
    from models.store.tenants import read_tenancy

    with store(home) as (client, keys):
        return read_tenancy(client, keys)


def cli_error(refused: TenancyRefused) -> CliError:
    """What there is not is no mistake of the command line's."""
    message = f"{refused.field}: {refused}" if refused.field and "." in refused.field else str(refused)
    kind = CliError if refused.code.endswith(NOT_FOUND) else AskedWrongly
    return kind(message, code=refused.code, details={"field": refused.field} if refused.field else None)


def who() -> Who:
    """For the audit log: the user of this machine."""
    import getpass

    from models.store.audit import Who

    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in containers
        name = "unknown"
    return Who(f"cli:{name}")


def show_change(sentence: str, document: dict[str, Any], *, json: bool, dry_run: bool) -> None:
    """``sentence``: of what was done, such as ``the tenant acme is blocked``."""
    if json:
        show_json({**document, "dry_run": True} if dry_run else document)
    else:
        show_text(f"not done, only tried: {sentence}" if dry_run else sentence)


def plain(record: object) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(record)
    return found


@contextlib.contextmanager
def store(given: HomeFolder) -> Iterator[tuple[redis.Redis, Keys]]:
    """The store of an installation; the embedded one is started for as long as this lasts when the service is down.

    Raises CliError.
    """
    from redis import RedisError

    from gateway.cli.plan import create_home
    from models.store.client import connect, keys_from, redis_url
    from models.store.errors import StoreError

    home = create_home(given)
    try:
        with _running_server(home):
            client = connect(redis_url(home))
            try:
                yield client, keys_from()
            finally:
                client.close()
    except RedisError as problem:
        raise CliError(
            f"Redis does not answer: {problem}", code="store_unavailable", cure="look at it with: roundhouse doctor"
        ) from None
    except StoreError as problem:
        raise CliError(str(problem), code="store_unavailable") from None


@contextlib.contextmanager
def _running_server(home: Home) -> Iterator[None]:
    import redis

    from gateway.cli.plan import uses_own_redis
    from gateway.service import record
    from models.store.client import connect, embedded_url
    from models.store.embedded import EmbeddedRedis

    if uses_own_redis(home) or record.holder(home) is not None:
        yield
        return
    client = connect(embedded_url(home))
    try:
        client.ping()
    except redis.ConnectionError:
        with EmbeddedRedis(home):
            yield
    else:
        yield
    finally:
        client.close()
