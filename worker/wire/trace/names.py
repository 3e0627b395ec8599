"""Names of routers, by the host's own resolver, within a time that does not hold up the run."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable

from streamswarm.targets import shown
from worker.concurrency import cancel
from worker.detached import Detached, TooManyHungCallsError

#: Longest name that is told (RFC 1035, section 2.3.4).
_LONGEST_NAME = 255
#: Look-ups under way at the same time in this process.
_MOST_LOOK_UPS = 64

_detached = Detached("names of hops", limit=_MOST_LOOK_UPS)


def look_up(address: str) -> str:
    """Return the name of an address, or the empty text when it has none, or one that is no text. Blocks."""
    try:
        return shown(socket.getnameinfo((address, 0), socket.NI_NAMEREQD)[0], _LONGEST_NAME)
    except (OSError, UnicodeError):
        return ""


async def names_of(
    addresses: Iterable[str], *, timeout_s: float, look_up: Callable[[str], str] = look_up
) -> dict[str, str]:
    """Return the names of addresses, after `timeout_s` at most; those without, or that take longer, are left out."""

    async def name(address: str) -> tuple[str, str]:
        try:
            return address, await _detached.call(lambda: look_up(address), timeout_s=timeout_s)
        except (asyncio.TimeoutError, TooManyHungCallsError, OSError):
            return address, ""

    asking = [asyncio.ensure_future(name(address)) for address in dict.fromkeys(addresses)]
    if not asking:
        return {}
    try:
        # Who waits for room among the look-ups may wait as long as a look-up may take; both together count.
        done, _ = await asyncio.wait(asking, timeout=timeout_s)
    finally:
        await cancel(*asking)
    found = dict(each.result() for each in asking if each in done)
    return {address: text for address, text in found.items() if text}
