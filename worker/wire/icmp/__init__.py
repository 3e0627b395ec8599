"""ICMP echo on Linux: the kernel's time stamps, no threads, few sockets for any number of runs at once.

One engine serves all runs of an event loop; see `engine` for their timing, `lane` for a socket with its sequence
numbers, `run` for what a run saw, `tables` and `worker.wire.batches` for how packets cross the border to the kernel.
"""

from __future__ import annotations

import asyncio

from worker.wire.echo import EchoPlan, EchoRecord
from worker.wire.icmp.engine import Engine
from worker.wire.icmp.sockets import PING_GROUP_RANGE, open_socket

__all__ = ["PING_GROUP_RANGE", "close_unused", "echo", "open_socket", "open_sockets", "strays"]

_engines: dict[asyncio.AbstractEventLoop, Engine] = {}


async def echo(plan: EchoPlan) -> EchoRecord:
    """Send the requests of a plan and listen for what comes back.

    Raises EchoUnavailableError without permission, EchoSendError when this host cannot send there at all.
    """
    return await _engine().echo(plan)


def close_unused() -> None:
    """Close the sockets of this event loop's engine at once, unless a run is under way; it opens them anew by itself."""
    _engine().close_unused()


def open_sockets() -> int:
    """Return how many sockets this event loop's engine has open."""
    return _engine().sockets


def strays() -> int:
    """Return how many messages this event loop's engine has got that answer nothing it sent, or not as it was sent."""
    engine = _engines.get(asyncio.get_running_loop())
    return 0 if engine is None else engine.strays


def _engine() -> Engine:
    loop = asyncio.get_running_loop()
    if loop not in _engines:
        for closed in [each for each in _engines if each.is_closed()]:
            del _engines[closed]
        _engines[loop] = Engine()
    return _engines[loop]
