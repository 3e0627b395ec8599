"""How often one may knock: token buckets per address and for all together."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote


@dataclass(kw_only=True)
class _Bucket:
    level: float
    at: float


class RateLimit:
    """Allows `rate` calls a second and `burst` at once, for each key; the least recently seen keys are forgotten."""

    def __init__(
        self, *, rate: float, burst: float, keys: int = 10_000, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._keys = keys
        self._now = now
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def allow(self, key: str) -> bool:
        """Count one call; False when it is one too many."""
        now = self._now()
        bucket = self._buckets.pop(key, None) or _Bucket(level=self._burst, at=now)
        bucket.level = min(self._burst, bucket.level + (now - bucket.at) * self._rate)
        bucket.at = now
        allowed = bucket.level >= 1
        if allowed:
            bucket.level -= 1
        self._buckets[key] = bucket
        while len(self._buckets) > self._keys:
            self._buckets.popitem(last=False)
        return allowed


def peer_address(peer: str) -> str:
    """Return the address in gRPC's name of a peer (`ipv4:192.0.2.1:5000`, `ipv6:%5B2001:db8::1%5D:5000`)."""
    family, _, rest = unquote(peer).partition(":")
    if family not in ("ipv4", "ipv6"):
        return peer
    return rest.rpartition(":")[0].strip("[]").partition("%")[0]


def limit_key(peer: str) -> str:
    """Return what a peer is counted under: its IPv4 address or its IPv6 network of 64 bits."""
    try:
        address = ipaddress.ip_address(peer_address(peer))
    except ValueError:
        return peer
    if address.version == 4:
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
