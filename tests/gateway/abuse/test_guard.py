"""Who is turned away, for how long, and who is not although somebody beside them is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from gateway.abuse.failures import MOST_WATCHED
from gateway.abuse.guard import Guard, Peer
from gateway.accounts import Accounts
from gateway.clock import Clock
from gateway.errors import AddressBlocked, CoolingDown, GatewayError, KeyBlocked
from gateway.exchange import Exchange
from gateway.plane.heads import RequestHead
from gateway.tenant_book import TenantBook
from models.store.records import KeyRecord
from models.store.tenancy import Block, CoolDown

STRANGER = Peer.of(("198.51.100.7", 4711))
OTHER = Peer.of(("198.51.100.8", 4711))
PROXY = Peer.of(("10.0.0.1", 4711))
COOL = CoolDown(failures=10, within_s=10.0, for_s=30.0)


@dataclass
class Gate:
    """A guard whose time the test tells."""

    now_s: float = 1000.0
    book: TenantBook = field(default_factory=TenantBook)

    def __post_init__(self) -> None:
        clock = Clock(unix=lambda: 1_700_000_000.0 + self.now_s, monotonic=lambda: self.now_s)
        self.house(cool_down=COOL)
        self.accounts = Accounts(self.book)
        self.guard = Guard(self.accounts, clock)

    def house(self, **rules: Any) -> None:
        self.book.offer(self.book.version + 1, msgspec.structs.replace(self.book.house, **rules), {})

    def until(self, for_s: float) -> float:
        return 1_700_000_000.0 + self.now_s + for_s

    def block(self, what: str, for_s: float | None = None) -> None:
        until_s = None if for_s is None else self.until(for_s)
        block = Block(what=what, reason="mining", since_unix_s=0, until_unix_s=until_s)
        self.house(blocks=(*self.book.house.blocks, block))
        self.guard.tick()

    def comes(self, peer: Peer, forwarded: str = "") -> RequestHead:
        head = RequestHead()
        head.headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
        self.guard.clear(peer, head)
        return head

    def fails(self, times: int, status: int = 400, address: str = "198.51.100.7", **facts: Any) -> None:
        for _ in range(times):
            self.guard.observe(Exchange("r", "POST", "/", self.now_s, status=status, address=address, **facts))


@pytest.fixture
def gate() -> Gate:
    return Gate()


@contextmanager
def refused(kind: type[GatewayError]) -> Iterator[list[GatewayError]]:
    found: list[GatewayError] = []
    with pytest.raises(kind) as caught:
        yield found
    found.append(caught.value)


# -- addresses -------------------------------------------------------------------------------------------------------


def test_who_is_let_through_is_noted_and_need_not_be_looked_at_again(gate: Gate) -> None:
    head = gate.comes(STRANGER)
    assert (head.address, head.cleared) == ("198.51.100.7", gate.guard.generation)
    gate.guard.tick()
    assert head.cleared == gate.guard.generation


def test_a_block_makes_everybody_be_looked_at_again(gate: Gate) -> None:
    head = gate.comes(STRANGER)
    gate.block("203.0.113.0/24")
    assert head.cleared != gate.guard.generation
    assert gate.comes(STRANGER).cleared == gate.guard.generation


@pytest.mark.parametrize("what", ["198.51.100.7", "198.51.100.0/24", "0.0.0.0/0", "::ffff:198.51.100.7"])
def test_a_blocked_network_is_refused_each_time(gate: Gate, what: str) -> None:
    gate.block(what)
    for _ in range(3):
        with refused(AddressBlocked) as errors:
            gate.comes(STRANGER)
    assert (errors[0].status, errors[0].code) == (403, "address_blocked")
    assert "mining" not in errors[0].message  # the operator's own note
    assert gate.guard.turned_away["address_blocked"] == 3


def test_a_block_ends_by_itself(gate: Gate) -> None:
    gate.block("198.51.100.7", for_s=60)
    with refused(AddressBlocked) as errors:
        gate.comes(STRANGER)
    assert errors[0].headers() == [("retry-after", "60")]
    gate.now_s += 61
    gate.comes(STRANGER)


def test_a_wider_block_counts_when_a_narrower_one_is_over(gate: Gate) -> None:
    gate.block("198.51.100.7", for_s=1)
    gate.block("198.51.100.0/24")
    gate.now_s += 5
    with refused(AddressBlocked):
        gate.comes(STRANGER)


def test_a_block_that_is_taken_back_is_over(gate: Gate) -> None:
    gate.block("198.51.100.7")
    gate.house(blocks=())
    gate.guard.tick()
    gate.comes(STRANGER)


def test_behind_a_trusted_proxy_each_request_is_its_own_callers(gate: Gate) -> None:
    gate.house(trusted_proxies=("10.0.0.0/8", "nonsense"))
    gate.block("198.51.100.7")
    head = RequestHead()
    head.headers = [(b"x-forwarded-for", b"198.51.100.8")]
    assert gate.guard.clear(PROXY, head) is False  # the connection says nothing of the next one
    assert head.address == "198.51.100.8"
    with refused(AddressBlocked):
        gate.comes(PROXY, "198.51.100.7")


def test_a_strangers_word_on_where_it_comes_from_is_not_heard(gate: Gate) -> None:
    gate.block("198.51.100.7")
    with refused(AddressBlocked):
        gate.comes(STRANGER, "198.51.100.8")
    assert gate.comes(OTHER, "198.51.100.7").address == "198.51.100.8"


def test_what_has_no_address_cannot_be_blocked(gate: Gate) -> None:
    gate.block("0.0.0.0/0")
    assert gate.comes(Peer.of("")).address == ""
    assert gate.comes(Peer.of(None)).address == ""


# -- strangers that try keys -----------------------------------------------------------------------------------------


def test_an_address_that_tries_keys_is_not_asked_about_for_a_while(gate: Gate) -> None:
    gate.fails(1, 401)
    gate.guard.check_stranger("198.51.100.7")
    gate.fails(1, 401)  # a fifth of what a key may
    with refused(CoolingDown) as errors:
        gate.guard.check_stranger("198.51.100.7")
    assert (errors[0].status, errors[0].type, errors[0].code) == (429, "rate_limit_error", "cooling_down")
    assert errors[0].headers() == [("retry-after", "30")]
    gate.guard.check_stranger("198.51.100.8")
    gate.now_s += 31
    gate.guard.check_stranger("198.51.100.7")


def test_being_refused_does_not_make_it_longer(gate: Gate) -> None:
    gate.fails(2, 401)
    gate.now_s += 29
    gate.fails(50, 429, code="cooling_down")
    gate.now_s += 2
    gate.guard.check_stranger("198.51.100.7")


def test_whoever_has_one_ipv6_address_has_them_all(gate: Gate) -> None:
    gate.fails(1, 401, "2001:db8:0:1::1")
    gate.fails(1, 401, "2001:db8:0:1:ffff::2")
    with refused(CoolingDown):
        gate.guard.check_stranger("2001:db8:0:1::3")
    gate.guard.check_stranger("2001:db8:0:2::1")


def test_a_known_keys_errors_are_not_its_addresss(gate: Gate) -> None:
    gate.fails(9, 400, key_id="key_1")
    gate.guard.check_stranger("198.51.100.7")


def test_addresses_that_cool_fill_no_memory(gate: Gate) -> None:
    for number in range(MOST_WATCHED + 100):
        gate.fails(2, 401, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(gate.guard._cool_addresses) == MOST_WATCHED
    gate.now_s += 31
    gate.guard.tick()
    assert not gate.guard.cools_addresses


# -- keys ------------------------------------------------------------------------------------------------------------


def test_nobody_asks_about_keys_while_there_is_nothing_to_say_of_any(gate: Gate) -> None:
    watched = [gate.guard.watches_keys]
    gate.block("key_1")
    watched.append(gate.guard.watches_keys)
    gate.house(blocks=())
    gate.guard.tick()
    assert [*watched, gate.guard.watches_keys] == [False, True, False]


def test_a_blocked_key_is_refused_and_others_are_not(gate: Gate) -> None:
    gate.block("key_1", for_s=60)
    gate.guard.check_key("key_2")
    with refused(KeyBlocked) as errors:
        gate.guard.check_key("key_1")
    assert (errors[0].status, errors[0].code) == (403, "key_blocked")
    gate.now_s += 61
    gate.guard.check_key("key_1")


def test_a_key_that_only_fails_cools_down(gate: Gate) -> None:
    told: list[tuple[str, str, float]] = []
    gate.guard.on_key_cooled = lambda *what: told.append(what)
    gate.fails(9, 404, key_id="key_1")
    gate.guard.check_key("key_1")
    gate.fails(1, 422, key_id="key_1", tenant="acme")
    assert told == [("key_1", "acme", 30.0)]
    assert gate.guard.watches_keys
    with refused(CoolingDown) as errors:
        gate.guard.check_key("key_1")
    assert "30 s" in errors[0].message
    gate.guard.check_key("key_2")
    gate.guard.check_key_blocks("key_1")  # what it ordered before goes on
    gate.now_s += 31
    gate.guard.check_key("key_1")
    gate.guard.tick()
    assert not gate.guard.watches_keys


def test_a_busy_key_may_fail_now_and_then(gate: Gate) -> None:
    """One request in three is wrong, hundreds of times within the while; then all of them are."""
    account = gate.accounts.of(KeyRecord(key_id="key_1", name="n", scopes=(), prefix="", created_unix_s=0))
    for _ in range(200):
        account.asked += 3
        gate.fails(1, 400, key_id="key_1")
    gate.guard.check_key("key_1")
    for _ in range(200):
        account.asked += 1
        gate.fails(1, 400, key_id="key_1")
    with refused(CoolingDown):
        gate.guard.check_key("key_1")


@pytest.mark.parametrize(
    "facts",
    [
        {"status": 429},
        {"status": 499},
        {"status": 500},
        {"status": 503},
        {"status": 403, "code": "key_blocked"},
        {"status": 400, "address": ""},  # a batch's, which nobody sends at the moment
    ],
)
def test_what_is_not_counted(gate: Gate, facts: dict[str, Any]) -> None:
    gate.fails(100, **{"key_id": "key_1"} | facts)
    gate.guard.check_key("key_1")


def test_it_can_be_switched_off(gate: Gate) -> None:
    gate.house(cool_down=CoolDown(failures=0))
    gate.fails(1000, 401)
    gate.fails(1000, key_id="key_1")
    gate.guard.check_stranger("198.51.100.7")
    gate.guard.check_key("key_1")
