"""Which networks an address is in, and what counts as one address."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.abuse.networks import Address, Network, Networks, is_public, parse_address, parse_network

ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


def test_an_address_in_other_clothes_is_the_same_address() -> None:
    assert parse_address("::ffff:192.0.2.1") == parse_address("192.0.2.1") == IPv4Address("192.0.2.1")
    assert parse_address("fe80::1%eth0") == IPv6Address("fe80::1")
    assert parse_network("::ffff:192.0.2.0/120") == ip_network("192.0.2.0/24")


@pytest.mark.parametrize("text", ["", "example.org", "192.0.2", "192.0.2.1:80", "192.0.2.01", "::g"])
def test_what_is_no_address(text: str) -> None:
    assert parse_address(text) is None


def test_an_address_alone_is_a_network_and_host_bits_do_not_matter() -> None:
    assert str(parse_network("192.0.2.7")) == "192.0.2.7/32"
    assert str(parse_network(" 192.0.2.7/24 ")) == "192.0.2.0/24"
    with pytest.raises(ValueError, match="key_1"):
        parse_network("key_1")


def test_all_networks_of_an_address_are_found_the_narrowest_first() -> None:
    said = {"10.0.0.0/8": "wide", "10.1.0.0/16": "narrow", "10.1.2.3/32": "alone", "2001:db8::/32": "other"}
    networks = Networks((parse_network(network), name) for network, name in said.items())
    assert list(networks.of(IPv4Address("10.1.2.3"))) == ["alone", "narrow", "wide"]
    assert list(networks.of(IPv4Address("10.2.2.3"))) == ["wide"]
    assert list(networks.of(IPv6Address("2001:db8::9"))) == ["other"]
    assert list(networks.of(IPv4Address("192.0.2.1"))) == []


@given(
    address=ADDRESSES,
    networks=st.lists(
        st.tuples(ADDRESSES, st.integers(0, 128)).map(
            lambda made: ip_network(f"{made[0]}/{min(made[1], made[0].max_prefixlen)}", strict=False)
        ),
        max_size=8,
    ),
)
def test_they_are_those_that_the_standard_library_finds(address: Address, networks: list[Network]) -> None:
    table = Networks((network, network) for network in networks)
    found = [network for network in networks if network.version == address.version and address in network]
    assert sorted(table.of(address), key=str) == sorted(found, key=str)
    assert table.cover(address) is bool(found)


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("64:ff9b::7f00:1", False),  # 127.0.0.1 through NAT64
        ("64:ff9b::808:808", True),
        ("2002:7f00:1::", False),  # 127.0.0.1 by 6to4
        ("2002:0a00:0001::1", False),
    ],
)
def test_what_is_on_the_internet(text: str, public: bool) -> None:
    assert is_public(ip_address(text)) is public
