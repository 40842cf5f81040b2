"""Addresses, the networks that they are in, and what is said of those. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Generic, TypeVar

T = TypeVar("T")
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MAPPED = IPv6Network("::ffff:0:0/96")
# Each of these carries an IPv4 address, in the bits that are left after so many: NAT64 (RFC 6052), 6to4 (RFC 3056).
_CARRIERS = ((IPv6Network("64:ff9b::/96"), 0), (IPv6Network("2002::/16"), 80))


def parse_address(text: str) -> Address | None:
    """None where it is none. An IPv4 address written as IPv6 (::ffff:192.0.2.1) is the IPv4 one. About 1 us."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def parse_network(text: str) -> Network:
    """An address is the network of it alone. Raises ValueError."""
    network = ip_network(text.strip(), strict=False)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


def is_public(address: Address) -> bool:
    """Whether it is on the internet: neither this machine, nor a private network, nor a group of machines."""
    if isinstance(address, IPv6Address):
        for network, shift in _CARRIERS:
            if address in network:
                return is_public(IPv4Address(int(address) >> shift & 0xFFFFFFFF))
    return address.is_global and not address.is_multicast


class Networks(Generic[T]):
    """Looked up by length of prefix: what it costs goes by how many lengths there are, not by how many networks."""

    __slots__ = ("_by_length",)

    def __init__(self, said: Iterable[tuple[Network, T]] = ()) -> None:
        found: dict[int, dict[int, dict[int, list[T]]]] = {4: {}, 6: {}}
        for network, value in said:
            shift = network.max_prefixlen - network.prefixlen
            at = found[network.version].setdefault(shift, {})
            at.setdefault(int(network.network_address) >> shift, []).append(value)
        # The narrowest first.
        self._by_length = {version: sorted(of.items()) for version, of in found.items()}

    def of(self, address: Address) -> Iterator[T]:
        """What is said of the networks that it is in, the narrowest first."""
        number = int(address)
        for shift, networks in self._by_length[address.version]:
            yield from networks.get(number >> shift, ())

    def cover(self, address: Address) -> bool:
        number = int(address)
        return any(number >> shift in networks for shift, networks in self._by_length[address.version])
