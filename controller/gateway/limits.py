"""How often one may knock, and how often a session may say something: token buckets."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

#: Messages of a session: so many a second, and so many at once after a rest.
MESSAGES_PER_S = 50.0
MESSAGES_AT_ONCE = 500.0
#: A message that brings so many results, or so many bytes of them, costs nothing.
_RESULTS_PER_TOKEN = 50
_BYTES_PER_TOKEN = 32_768


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


class Allowance:
    """What one session may say: messages pay with tokens, and what they carry earns some.

    A full batch pays for itself, for it is held back by the credit and by the database. What costs a gateway much and
    brings nothing are many small messages, of which no worker sends more than some twenty a second.
    """

    __slots__ = ("_at", "_level", "_now", "_short_since")

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._level = MESSAGES_AT_ONCE
        self._at = now()
        self._short_since: float | None = None

    def take(self, *, results: int = 0, size: int = 0) -> float:
        """Pay for a message that carries so much; return for how many seconds nothing more should be read."""
        now = self._now()
        earned = (now - self._at) * MESSAGES_PER_S + results / _RESULTS_PER_TOKEN + size / _BYTES_PER_TOKEN
        self._at = now
        self._level = min(MESSAGES_AT_ONCE, self._level + earned) - 1
        if self._level >= MESSAGES_AT_ONCE / 2:
            self._short_since = None
        if self._level >= 0:
            return 0.0
        if self._short_since is None:
            self._short_since = now
        return -self._level / MESSAGES_PER_S

    @property
    def short_s(self) -> float:
        """For how long the session has said more than it may, without a rest."""
        return 0.0 if self._short_since is None else self._now() - self._short_since


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
