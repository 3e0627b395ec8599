"""ICMP errors that this host sends to itself: its own word, and nobody's on the way."""

from __future__ import annotations

import ipaddress

from worker.wire import netlink

#: Type of "unreachable" by IP version, and codes of it that a host gives for others: that a neighbour does not answer, and
#: that a packet is too big.
_UNREACHABLE = {4: 3, 6: 1}
_FOR_OTHERS = {4: {1, 4}, 6: {3}}


def is_unsent(version: int, kind: int | None, code: int, offender: str | None) -> bool:
    """Return whether an error says that a packet has not left this host, as its own firewall does where it rejects."""
    if not netlink.SUPPORTED or offender is None:
        return False
    if kind != _UNREACHABLE[version] or code in _FOR_OTHERS[version]:
        return False
    try:
        return netlink.first_hop(ipaddress.ip_address(offender)) is None
    except (OSError, ValueError):  # there is no way to it
        return False
