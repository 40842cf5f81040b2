"""Whose word on a caller's address is taken, and whose is not."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address

import pytest

from gateway.abuse.forwarded import MOST_HOPS, caller_behind
from gateway.abuse.networks import Networks, parse_network

TRUSTED = Networks((parse_network(network), True) for network in ("10.0.0.0/8", "fd00::/8"))
PEER = IPv4Address("10.0.0.1")


def caller(*values: str) -> str:
    headers = [(b"x-forwarded-for", value.encode()) for value in values]
    return str(caller_behind(PEER, [(b"host", b"h"), *headers], TRUSTED))


def test_the_last_one_that_is_no_proxy_of_ours_is_the_caller() -> None:
    assert caller("198.51.100.7") == "198.51.100.7"
    assert caller("198.51.100.7, 10.0.0.2") == "198.51.100.7"
    assert caller("198.51.100.7", "10.0.0.2, fd00::3") == "198.51.100.7"


def test_what_a_caller_writes_there_itself_is_not_believed() -> None:
    assert caller("203.0.113.1, 198.51.100.7") == "198.51.100.7"
    assert caller("127.0.0.1, 198.51.100.7, 10.0.0.2") == "198.51.100.7"


@pytest.mark.parametrize("nonsense", ["unknown", "", "_hidden", "198.51.100.7, nonsense", "198.51.100.7,,"])
def test_nonsense_leads_back_to_the_proxy_that_passed_it_on(nonsense: str) -> None:
    assert caller(nonsense) == "10.0.0.1"


def test_without_the_header_the_proxy_itself_calls() -> None:
    assert caller() == "10.0.0.1"


def test_where_all_are_proxies_it_is_the_farthest() -> None:
    assert caller("10.0.0.9, 10.0.0.2") == "10.0.0.9"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("198.51.100.7:4711", "198.51.100.7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
    ],
)
def test_ports_and_brackets_are_read_over(written: str, meant: str) -> None:
    assert ip_address(caller(written)) == ip_address(meant)


def test_a_long_list_is_looked_at_from_its_end_only() -> None:
    assert caller(",".join(["203.0.113.1"] * 5000 + ["10.0.0.2"])) == "203.0.113.1"
    assert caller(",".join(["203.0.113.1"] + ["10.0.0.2"] * (MOST_HOPS + 5))) == "10.0.0.2"
