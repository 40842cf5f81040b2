"""Who is let near: addresses and keys that an operator blocked, and those that failed too often of late.

Each worker counts for itself: nothing here asks the store. A key that is known is never refused for its address: many
callers share one, behind a company's gateway or a proxy that nobody has named as trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import structlog

from gateway.abuse.failures import MOST_WATCHED, Failures
from gateway.abuse.forwarded import caller_behind
from gateway.abuse.networks import Address, Network, Networks, parse_address, parse_network
from gateway.accounts import Accounts
from gateway.clock import Clock
from gateway.errors import AddressBlocked, CoolingDown, KeyBlocked
from gateway.exchange import Exchange
from gateway.plane.heads import RequestHead
from models.store.tenancy import Block, HouseRecord

STRANGERS_SHARE = 5  # of a key's failures, one part is enough for an address
SITE_BITS = 64  # of an IPv6 address: whoever has one has all of these
NOT_THEIRS = (429, 499)  # statuses that are no fault of what was asked
TURNED_AWAY = ("address_blocked", "address_cooling", "key_blocked", "key_cooling")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a connection. ``address``: None where it has none, such as a unix socket's."""

    text: str
    address: Address | None

    @classmethod
    def of(cls, peername: object) -> Peer:
        """Of what a transport calls its peer."""
        host = peername[0] if isinstance(peername, tuple) and peername else ""
        address = parse_address(host) if host else None
        return cls("" if address is None else str(address), address)


class Guard:
    """``generation``: one more whenever somebody is to be turned away who was not before. What was let through in this
    one need not be looked at again: that is all that good callers pay. ``on_key_cooled``: told of its id, its tenant
    and for how long, once each time."""

    def __init__(self, accounts: Accounts, clock: Clock) -> None:
        self.generation = 0
        self.watches_keys = False
        self.turned_away = dict.fromkeys(TURNED_AWAY, 0)
        self.on_key_cooled: Callable[[str, str, float], None] | None = None
        self._accounts = accounts
        self._book = accounts.book
        self._clock = clock
        self._house: HouseRecord | None = None
        self._proxies: Networks[bool] = Networks()
        self._networks: Networks[Block] = Networks()
        self._keys: Mapping[str, list[Block]] = {}
        self._strangers, self._failing = Failures(), Failures()
        self._cool_addresses: dict[str, float] = {}  # until when, of the monotonic clock
        self._cool_keys: dict[str, float] = {}
        self.tick()

    # -- what is let through -----------------------------------------------------------------------------------------

    def clear(self, peer: Peer, head: RequestHead) -> bool:
        """Notes in ``head`` whose it is. True: all that comes over this connection is the same one's.

        Raises AddressBlocked. About 1 us; 3 us behind a proxy.
        """
        address, alone = peer.address, True
        if address is not None and self._proxies.cover(address):
            address, alone = caller_behind(address, head.headers, self._proxies), False
        head.address = peer.text if alone else str(address)
        if address is not None:
            self._check_blocks("address_blocked", self._networks.of(address), AddressBlocked)
        head.cleared = self.generation
        return alone

    def check_key(self, key_id: str) -> None:
        """Raises KeyBlocked, CoolingDown. To be asked while ``watches_keys``."""
        self.check_key_blocks(key_id)
        until_s = self._cool_keys.get(key_id)
        if until_s is not None:
            self._check_cool("key_cooling", "This API key", until_s)

    def check_key_blocks(self, key_id: str) -> None:
        """For what nobody sends at the moment, such as a batch's requests. Raises KeyBlocked."""
        self._check_blocks("key_blocked", self._keys.get(key_id, ()), KeyBlocked)

    @property
    def cools_addresses(self) -> bool:
        return bool(self._cool_addresses)

    def check_stranger(self, address: str) -> None:
        """Before anybody is asked about a key that is not known here. Raises CoolingDown."""
        if self._cool_addresses:
            until_s = self._cool_addresses.get(site_of(address))
            if until_s is not None:
                self._check_cool("address_cooling", "This address", until_s)

    def _check_blocks(
        self, why: str, blocks: Iterable[Block], refusal: type[AddressBlocked] | type[KeyBlocked]
    ) -> None:
        for block in blocks:
            until_s = block.until_unix_s
            left_s = None if until_s is None else until_s - self._clock.unix()
            if left_s is None or left_s > 0:
                self.turned_away[why] += 1
                raise refusal(left_s)

    def _check_cool(self, why: str, who: str, until_s: float) -> None:
        left_s = until_s - self._clock.monotonic()
        if left_s > 0:
            self.turned_away[why] += 1
            raise CoolingDown(who, left_s)

    # -- what is counted ---------------------------------------------------------------------------------------------

    def observe(self, exchange: Exchange) -> None:
        """Of an answer that is an error. Such as this process asked of itself count for nobody."""
        status, cool = exchange.status, self._book.house.cool_down
        if not 400 <= status < 500 or status in NOT_THEIRS or not exchange.address or cool.failures < 1:
            return
        if exchange.code in (AddressBlocked.code, KeyBlocked.code):
            return
        now_s = self._clock.monotonic()
        if exchange.key_id:
            asked = self._accounts.asked(exchange.key_id)
            if self._failing.add(exchange.key_id, now_s, cool.failures, cool.within_s, asked):
                self._cool_key(exchange.key_id, exchange.tenant, cool.for_s)
            return
        site = site_of(exchange.address)
        if self._strangers.add(site, now_s, -(-cool.failures // STRANGERS_SHARE), cool.within_s):
            _keep(self._cool_addresses, site, now_s + cool.for_s)
            log.warning("an address fails too often; without a known key it is refused", address=site, for_s=cool.for_s)

    def _cool_key(self, key_id: str, tenant: str, for_s: float) -> None:
        _keep(self._cool_keys, key_id, self._clock.monotonic() + for_s)
        self.watches_keys = True
        log.warning("a key fails too often; it is refused for a while", key_id=key_id, for_s=for_s)
        if self.on_key_cooled is not None:
            self.on_key_cooled(key_id, tenant, for_s)

    # -- as time passes ----------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """To be called a few times a second: takes up the house's rules, forgets what is over."""
        if self._book.house is not self._house:
            self._take(self._book.house)
        if self._cool_addresses or self._cool_keys:
            now_s = self._clock.monotonic()
            for cool in (self._cool_addresses, self._cool_keys):
                for who in [who for who, until_s in cool.items() if until_s <= now_s]:
                    del cool[who]
            self.watches_keys = bool(self._keys or self._cool_keys)

    def _take(self, house: HouseRecord) -> None:
        self._house = house
        networks, keys = [], dict[str, list[Block]]()
        for block in house.blocks:
            try:
                networks.append((parse_network(block.what), block))
            except ValueError:
                keys.setdefault(block.what, []).append(block)
        self._networks, self._keys = Networks(networks), keys
        self._proxies = Networks(_proxies(house.trusted_proxies))
        self.watches_keys = bool(keys or self._cool_keys)
        self.generation += 1


def site_of(address: str) -> str:
    """What one caller has of addresses: one of IPv4, a network of IPv6."""
    parsed = parse_address(address) if ":" in address else None
    return address if parsed is None else str(parse_network(f"{parsed}/{SITE_BITS}"))


def _keep(cooling: dict[str, float], who: str, until_s: float) -> None:
    """Bounded: of too many the one that has been refused for longest is let off."""
    cooling.pop(who, None)
    if len(cooling) >= MOST_WATCHED:
        del cooling[next(iter(cooling))]
    cooling[who] = until_s


def _proxies(trusted: Iterable[str]) -> Iterator[tuple[Network, bool]]:
    for proxy in trusted:
        try:
            yield parse_network(proxy), True
        except ValueError:
            log.error("a trusted proxy is left out: it is neither an address nor a network", proxy=proxy)
