"""``roundhouse keys``: straight on the store, so that it works before and without a gateway."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.errors import AskedWrongly, CliError
from gateway.cli.options import DryRun, HomeFolder, Json
from gateway.cli.output import say, show_json, show_table, show_text

if TYPE_CHECKING:
    import redis

    from models.home import Home
    from models.store.keys import Keys
    from models.store.records import KeyRecord

app = typer.Typer(help="Create, list and revoke API keys.", rich_markup_mode=None)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Who or what it is for", show_default=False)],
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="inference (the default) or admin; may be repeated", show_default=False),
    ] = None,
    dry_run: DryRun = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Make a key. Its text is shown this once and stored nowhere."""
    from models.store.api_keys import KeyRefused, build_key, create_key

    scopes = tuple(scope or ("inference",))
    try:
        record = build_key(name, scopes, time.time()).record
        if dry_run:
            _show(f"would make a key named {record.name!r} for {', '.join(record.scopes)}", {"dry_run": True}, json)
            return
        with store(home) as (client, keys):
            created = create_key(client, keys, name, scopes, time.time())
    except KeyRefused as refused:
        raise AskedWrongly(str(refused), code="key_refused") from None
    if json:
        show_json({**document(created.record), "key": created.text})
        return
    say(f"{created.record.key_id}, for {', '.join(scopes)}. This is the only time the key is shown:")
    show_text(created.text)


@app.command("list")
def list_all(home: HomeFolder = None, json: Json = False) -> None:
    """Every key that was made, revoked ones too; never its text."""
    from models.store.api_keys import list_keys

    with store(home) as (client, keys):
        records = list_keys(client, keys)
    if json:
        show_json({"object": "list", "data": [document(record) for record in records]})
        return
    rows = (
        (
            record.key_id,
            record.name,
            f"{record.prefix}...",
            ", ".join(record.scopes),
            _date(record.created_unix_s),
            f"revoked {_date(record.revoked_unix_s)}" if record.revoked_unix_s else "works",
        )
        for record in records
    )
    show_table(("ID", "NAME", "KEY", "SCOPES", "CREATED", "STATE"), rows, "There are no keys yet.")


@app.command()
def revoke(
    which: Annotated[str, typer.Argument(metavar="ID", help="As listed", show_default=False)],
    dry_run: DryRun = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """End a key. Gateways stop taking it at once."""
    from models.store.api_keys import KeyNotFound, decode_keys, find_key, revoke_key

    with store(home) as (client, keys):
        try:
            if dry_run:
                record = find_key(decode_keys(client.hgetall(keys.api_keys)), which)[1]
                _show(f"would revoke {record.key_id} ({record.name})", {**document(record), "dry_run": True}, json)
                return
            record = revoke_key(client, keys, which, time.time())
        except KeyNotFound as missing:
            raise CliError(str(missing), code="key_not_found") from None
    _show(f"{record.key_id} ({record.name}) is revoked", document(record), json)


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


def document(record: KeyRecord) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(record)
    return found


def _show(sentence: str, found: dict[str, Any], json: bool) -> None:
    if json:
        show_json(found)
    else:
        show_text(sentence)


def _date(unix_s: float | None) -> str:
    return "" if unix_s is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_s))
