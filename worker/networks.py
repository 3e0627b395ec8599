"""Address ranges as plain integers, and the IPv4 addresses that hide in IPv6 ones.

Python's `ipaddress` sorts some ranges differently from release to release (`is_private`, `is_global` before
3.11.10), so nothing here asks it for more than parsing and the number of an address.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from worker.probing import IPAddress


@dataclass(frozen=True)
class Network:
    """A range of addresses of one version, first and last included."""

    version: int
    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> Network:
        """Parse an address or a network in CIDR form; raises ValueError."""
        network = ipaddress.ip_network(text, strict=False)
        return cls(network.version, int(network.network_address), int(network.broadcast_address))

    def __contains__(self, address: IPAddress) -> bool:
        return address.version == self.version and self.first <= int(address) <= self.last

    def within(self, other: Network) -> bool:
        """True when all of this range lies in the other."""
        return self.version == other.version and other.first <= self.first and self.last <= other.last

    def overlaps(self, other: Network) -> bool:
        """True when an address lies in both."""
        return self.version == other.version and self.first <= other.last and other.first <= self.last

    def covered_by(self, networks: Iterable[Network]) -> bool:
        """True when each address of this range lies in one of the networks."""
        reached = self.first
        for network in sorted(
            (each for each in networks if self.overlaps(each)), key=lambda each: each.first
        ):
            if network.first > reached:
                return False
            reached = max(reached, network.last + 1)
        return reached > self.last


# Ranges of IPv6 that carry an IPv4 address, with the right shift that brings its 32 bits down.
_CARRIERS: tuple[tuple[Network, int], ...] = (
    (Network.parse("::ffff:0:0/96"), 0),  # mapped
    (Network.parse("::/96"), 0),  # compatible
    (Network.parse("::ffff:0:0:0/96"), 0),  # translated, RFC 2765
    (Network.parse("64:ff9b::/96"), 0),  # NAT64, RFC 6052
    (Network.parse("2002::/16"), 80),  # 6to4, RFC 3056
)
# NAT64 for local use, RFC 8215. Whoever runs the translator chooses the length of its prefix.
LOCAL_NAT64 = Network.parse("64:ff9b:1::/48")
_LOCAL_NAT64_LENGTHS = (48, 56, 64, 96)
_TEREDO = Network.parse("2001::/32")
_MASK_32 = 0xFFFFFFFF
_SITE_TUNNEL = 0x5EFE  # ISATAP, RFC 5214: the interface part is 0000:5efe or 0200:5efe, then the IPv4 address


def reachable_as(address: IPAddress) -> Iterator[IPAddress]:
    """Yield the address and every IPv4 address that packets to it may end up at."""
    plain = (
        ipaddress.ip_address(int(address)) if address.version == 4 else ipaddress.IPv6Address(int(address))
    )
    yield plain
    if plain.version == 4:
        return
    number = int(plain)
    if number <= 1:  # `::` and `::1` are addresses of their own, no carriers
        return
    for carrier, shift in _CARRIERS:
        if plain in carrier:
            yield ipaddress.IPv4Address((number >> shift) & _MASK_32)
    if plain in LOCAL_NAT64:
        yield from _translated(number)
    if plain in _TEREDO:
        yield ipaddress.IPv4Address((number >> 64) & _MASK_32)
        yield ipaddress.IPv4Address(~number & _MASK_32)
    if (number >> 32) & 0xFDFFFFFF == _SITE_TUNNEL:
        yield ipaddress.IPv4Address(number & _MASK_32)


def _translated(number: int) -> Iterator[IPAddress]:
    """Yield the IPv4 address under each length that the translator's prefix may have, RFC 6052, section 2.2."""
    octets = number.to_bytes(16, "big")
    for length in _LOCAL_NAT64_LENGTHS:
        start = length // 8
        # Octet 8 is kept free where the address would run across it.
        carried = octets[start:8] + octets[9:] if start <= 8 else octets[start:]
        embedded = ipaddress.IPv4Address(carried[:4])
        # Under lengths that are not the translator's own, zeros stand for its prefix or for what is left over.
        if carried[0]:
            yield embedded
