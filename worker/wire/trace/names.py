"""Names of routers, by the host's own resolver, within a time that does not hold up the run."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable

from worker.detached import Detached, TooManyHungCallsError

#: Look-ups under way at the same time in this process.
_MOST_LOOK_UPS = 64

_detached = Detached("names of hops", limit=_MOST_LOOK_UPS)


def look_up(address: str) -> str:
    """Return the name of an address, or the empty text when it has none. Blocks."""
    try:
        return socket.getnameinfo((address, 0), socket.NI_NAMEREQD)[0]
    except OSError:
        return ""


async def names_of(
    addresses: Iterable[str], *, timeout_s: float, look_up: Callable[[str], str] = look_up
) -> dict[str, str]:
    """Return the names of addresses; those without, or whose name servers are too slow, are left out."""

    async def name(address: str) -> tuple[str, str]:
        try:
            return address, await _detached.call(lambda: look_up(address), timeout_s=timeout_s)
        except (asyncio.TimeoutError, TooManyHungCallsError, OSError):
            return address, ""

    found = await asyncio.gather(*map(name, dict.fromkeys(addresses)))
    return {address: text for address, text in found if text}
