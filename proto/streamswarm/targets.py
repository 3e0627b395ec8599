"""What a test may aim at: strict parsing of hosts, networks, host:port pairs and URLs.

The same rules hold where a destination is typed in and where a worker is about to send, so that nothing odd
(numbers that resolvers take for addresses, options, control characters) travels in between.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Union
from urllib.parse import urlsplit

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\Z")
_LOOKS_NUMERIC = re.compile(r"(0[xX][0-9A-Fa-f]*|[0-9]+)\Z")
_PREFIX = re.compile(r"(0|[1-9][0-9]{0,2})\Z", re.ASCII)
_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,15}\Z")
#: Addresses that are told apart by a zone (RFC 4007): link-local ones. Elsewhere systems ignore it without a word.
_WITH_ZONE = ipaddress.IPv6Network("fe80::/10")
_URL_CHARACTERS = re.compile(r"[!-~]+\Z")

MAX_TARGET_LENGTH = 2048
#: Most addresses of a network that a test may aim at.
MOST_ADDRESSES = 65_536

IPNetwork = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]  # noqa: UP007  a value, and Python 3.10 has no `type`


class TargetError(ValueError):
    """The text is not a usable target; the message says why and shows a form that is."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A parsed target."""

    #: Host name in lower case, or an address or network in its canonical form; empty for a target of no host.
    host: str
    #: Port, where the text names one.
    port: int | None = None
    #: The whole URL, for kinds that aim at one.
    url: str | None = None
    #: All addresses of a network, for kinds that may aim at one.
    network: IPNetwork | None = None

    @property
    def addresses(self) -> int:
        """How many addresses it aims at: those of a network that hosts may have, one otherwise."""
        return 1 if self.network is None else len(host_range(self.network))

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The host as an address, or None when it is a name or a network."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    def __str__(self) -> str:
        if self.url is not None:
            return self.url
        if self.port is None:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_host(text: str) -> str:
    """Return the canonical form of a host name or address, or raise TargetError."""
    _check_plain(text)
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        pass
    else:
        _, percent, zone = text.partition("%")
        if percent and not _ZONE.match(zone):
            raise TargetError(f"`{shown(text)}` has a zone that is no interface name, such as `fe80::1%eth0`")
        if percent and address.is_multicast:
            raise TargetError(
                f"`{shown(text)}` is a multicast address, which many hosts may answer at once; name the address of one"
            )
        if percent and address not in _WITH_ZONE:
            raise TargetError(
                f"`{shown(text)}` has a zone, which only link-local addresses (fe80::/10) have; leave out "
                f"`%{zone}`, and name the interface as the test's `source` if packets must leave by it"
            )
        return str(address)
    name = text.lower().removesuffix(".")
    if not name:
        raise TargetError(
            "the host is empty; name a host such as `www.example.org` or an address such as `192.0.2.1`"
        )
    if len(name) > 253:
        raise TargetError(f"the host name has {len(name)} characters; 253 is the most that DNS allows")
    labels = name.split(".")
    for label in labels:
        if not _LABEL.match(label):
            raise TargetError(
                f"`{shown(text)}` is not a host name or address: the part `{shown(label)}` must be 1 to 63 letters, digits, "
                "hyphens or underscores, without a hyphen at either end"
            )
    if _LOOKS_NUMERIC.match(labels[-1]):
        raise TargetError(
            f"`{shown(text)}` is not an address in the usual form and would be guessed at by resolvers; "
            "write IPv4 addresses as four decimal numbers, such as `192.0.2.1`"
        )
    return name


def parse_network(text: str) -> IPNetwork:
    """Return the network that is written as `192.0.2.0/24` or `2001:db8::/120`, or raise TargetError."""
    _check_plain(text)
    address, _, length = text.partition("/")
    try:
        first = ipaddress.ip_address(address)
    except ValueError:
        raise TargetError(
            f"`{shown(text)}` is not a network; write its first address and the length of its prefix, "
            "such as `192.0.2.0/24`"
        ) from None
    if "%" in address:
        raise TargetError(f"`{shown(text)}` has a zone, which no network has; leave out what follows `%`")
    bits = first.max_prefixlen
    if not _PREFIX.match(length) or int(length) > bits:
        raise TargetError(
            f"`{shown(length)}` is not the length of a prefix; it is a number from 0 to {bits}, as in `192.0.2.0/24`"
        )
    if bits - int(length) > MOST_ADDRESSES.bit_length() - 1:
        least = bits - MOST_ADDRESSES.bit_length() + 1
        raise TargetError(
            f"`{shown(text)}` has more than {MOST_ADDRESSES} addresses, the most that one test may aim at; "
            f"use networks of /{least} or longer prefixes"
        )
    network = ipaddress.ip_network(f"{first}/{length}", strict=False)
    if network.network_address != first:
        raise TargetError(f"`{shown(text)}` does not begin at {first}; the network is `{network}`")
    return network


def host_range(network: IPNetwork) -> range:
    """Return the numbers of the addresses that hosts of a network may have.

    Without its own address and the broadcast address in IPv4 (RFC 1122; RFC 3021 for two addresses), without the
    routers' anycast address in IPv6 (RFC 4291; RFC 6164 for two addresses).
    """
    first, last = int(network.network_address), int(network.broadcast_address)
    if network.num_addresses <= 2:
        return range(first, last + 1)
    return range(first + 1, last if network.version == 4 else last + 1)


def parse_host_port(text: str) -> Target:
    """Parse `host`, `host:port`, `address`, `[v6 address]` or `[v6 address]:port`."""
    _check_plain(text)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise TargetError(
                f"`{shown(text)}` opens a bracket that does not close; write `[2001:db8::1]:53`"
            )
        try:
            ipaddress.IPv6Address(host)
        except ValueError as error:
            raise TargetError(f"`{shown(host)}` is not an IPv6 address") from error
        return Target(host=parse_host(host), port=_parse_port(rest[1:]) if rest else None)
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return Target(host=parse_host(host), port=_parse_port(port))
    return Target(host=parse_host(text))


def parse_url(text: str) -> Target:
    """Parse an absolute http or https URL without credentials or fragment."""
    _check_plain(text)
    if not _URL_CHARACTERS.match(text):
        raise TargetError("the URL has characters that are not allowed there; percent-encode them")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise TargetError(f"`{shown(text)}` is not a URL: {error}") from error
    if parts.scheme not in ("http", "https"):
        raise TargetError(f"`{shown(text)}` must start with `http://` or `https://`")
    if parts.username is not None or parts.password is not None:
        raise TargetError(
            "the URL carries a user name or password, which would be stored and shown; leave it out"
        )
    if parts.fragment:
        raise TargetError("the URL has a fragment (`#…`), which is never sent; leave it out")
    if port == 0:
        raise TargetError("port 0 cannot be connected to; name a port from 1 to 65535")
    # A zone may stand behind an escaped sign (RFC 6874).
    host = parse_host((parts.hostname or "").replace("%25", "%", 1))
    return Target(host=host, port=port, url=text)


def parse_address(text: str) -> Target:
    """Parse what a destination may be: a URL where there is a scheme, a network where there is a slash, else a host with or without port."""
    if "://" in text:
        return parse_url(text)
    if "/" in text:
        network = parse_network(text)
        return Target(host=str(network), network=network)
    return parse_host_port(text)


def shown(text: str, limit: int = 80) -> str:
    """Return text made safe for messages and logs: control characters escaped, cut to `limit`."""
    safe = text
    if not text.isprintable():
        safe = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"


def _check_plain(text: str) -> None:
    if not text:
        raise TargetError("the target is empty; name a host, a host with a port, or a URL")
    if len(text) > MAX_TARGET_LENGTH:
        raise TargetError(f"the target has {len(text)} characters; {MAX_TARGET_LENGTH} is the most")
    if any(not character.isprintable() or character.isspace() for character in text):
        raise TargetError(f"`{shown(text)}` has white space or control characters, which no target has")


def _parse_port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 5 or not 1 <= int(text) <= 65535:
        raise TargetError(f"`{shown(text)}` is not a port; ports are numbers from 1 to 65535")
    return int(text)
