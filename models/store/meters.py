"""What the meters say of themselves, and what of it operators should see to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from models.store.codec import decode, encode
from models.store.errors import StoreDataError
from models.store.keys import Keys
from models.store.usage import MeterStatus

if TYPE_CHECKING:
    import redis
    import redis.asyncio

SECOND_US = 1_000_000
SILENT_S = 30.0
FORGOTTEN_S = 86_400.0
BEHIND_S = 60.0


async def tell(client: redis.asyncio.Redis, keys: Keys, status: MeterStatus) -> None:
    """Also forgets machines that have said nothing for FORGOTTEN_S. Raises redis.RedisError."""
    others = decode_all(await client.hgetall(keys.usage_meters))
    gone = [one.machine for one in others if one.at_us < status.at_us - FORGOTTEN_S * SECOND_US]
    if gone:
        await client.hdel(keys.usage_meters, *gone)
    await client.hset(keys.usage_meters, status.machine, encode(status))


def read(client: redis.Redis, keys: Keys) -> list[MeterStatus]:
    """By machine. Raises redis.RedisError."""
    found: Any = client.hgetall(keys.usage_meters)
    return decode_all(found)


async def read_async(client: redis.asyncio.Redis, keys: Keys) -> list[MeterStatus]:
    """By machine. Raises redis.RedisError."""
    return decode_all(await client.hgetall(keys.usage_meters))


def decode_all(raws: Mapping[Any, Any]) -> list[MeterStatus]:
    """What cannot be read is another version's, and left out."""
    found = []
    for raw in raws.values():
        try:
            found.append(decode(raw, MeterStatus, "a meter's status"))
        except StoreDataError:
            continue
    return sorted(found, key=lambda status: status.machine)


def problems(meters: Sequence[MeterStatus], now_unix_s: float) -> Iterator[str]:
    """Each with what to do. Nothing of an installation that has no meter yet."""
    awake = []
    for meter in meters:
        silent_s = now_unix_s - meter.at_us / SECOND_US
        if silent_s > SILENT_S:
            yield (
                f"the meter of {meter.machine} has said nothing for {silent_s:.0f} s: what is used there stays on disk "
                "and is not billed; roundhouse logs meter says more there"
            )
            continue
        awake.append(meter)
        if meter.problem:
            yield f"the meter of {meter.machine} waits, and nothing is lost meanwhile: {meter.problem}"
        if meter.lost_bytes:
            yield f"{meter.lost_bytes} bytes of usage logs of {meter.machine} could not be read: look after its disk"
    for meter in awake:
        behind_s = now_unix_s - meter.settled_us / SECOND_US
        if meter.settles and meter.settled_us and behind_s > BEHIND_S:
            yield f"usage is settled up to {behind_s:.0f} s ago; the rest waits for {meter.waits_for or 'its turn'}"
