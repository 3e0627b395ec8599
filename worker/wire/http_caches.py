"""Whether an answer came out of a cache, by what caches say about it in its header."""

from __future__ import annotations

import re
from collections.abc import Iterator

from worker.wire.http_exchange import Exchange

_CLOUDFLARE_HITS = {"HIT", "STALE", "REVALIDATED", "UPDATING"}
_CLOUDFLARE_MISSES = {"MISS", "EXPIRED", "BYPASS", "DYNAMIC"}
#: One that is never closed reaches to the end: looking for another beginning at each quote in it would take for ever.
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL)
#: An age beyond 2^31 counts as that much (RFC 9111, section 1.2.2); ours must fit the field.
_GREATEST_AGE_S = 2**31 - 1
_MOST_DIGITS = 100


def came_from_cache(exchange: Exchange) -> bool | None:
    """Return whether any cache on the way answered, and None when none says so either way.

    Looked at in this order: Cache-Status (RFC 9211), CF-Cache-Status, X-Cache, and Age (RFC 9111, section 5.1), which
    an answer that no cache has kept does not have.
    """
    for name, read in (
        ("cache-status", _cache_status),
        ("cf-cache-status", _cloudflare),
        ("x-cache", _x_cache),
    ):
        value = exchange.headers.get(name)
        verdict = None if value is None else read(value)
        if verdict is not None:
            return verdict
    return True if age_s(exchange) else None


def age_s(exchange: Exchange) -> int | None:
    """Return the Age of an answer in seconds, or None."""
    value = exchange.headers.get("age", "").strip()
    if not (value.isascii() and value.isdecimal() and len(value) <= _MOST_DIGITS):
        return None
    return min(int(value), _GREATEST_AGE_S)


def _cache_status(value: str) -> bool | None:
    """Read `CacheA; hit; ttl=5, CacheB; fwd=miss`: a hit anywhere is one."""
    caches = list(_members(value))
    if any("hit" in parameters for parameters in caches):
        return True
    return False if any("fwd" in parameters for parameters in caches) else None


def _members(value: str) -> Iterator[set[str]]:
    # Commas and semicolons inside of quoted strings separate nothing.
    for member in _QUOTED.sub('""', value).split(","):
        yield {
            parameter.partition("=")[0].strip().lower()
            for parameter in member.split(";")[1:]
            if parameter.partition("=")[2].strip() != "?0"
        }


def _cloudflare(value: str) -> bool | None:
    word = value.strip().upper()
    return True if word in _CLOUDFLARE_HITS else False if word in _CLOUDFLARE_MISSES else None


def _x_cache(value: str) -> bool | None:
    """Read `HIT`, `Hit from cloudfront`, `MISS, HIT`: there is no standard, and a hit anywhere is one."""
    words = set(re.findall(r"[a-z]+", value.lower()))
    return True if "hit" in words else False if "miss" in words else None
