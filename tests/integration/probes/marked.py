"""What tests of `qos` share: a path whose routers change marks, and a worker's responder at its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from integration.probes.longer import Path4
from integration.probes.peers import Namespace

from streamswarm.v1.probes.qos_pb2 import QosClass, QosResult
from worker.clock import SystemClock
from worker.concurrency import cancel
from worker.policy import Policy
from worker.responders.marks import respond

FAMILIES = pytest.mark.parametrize("family", ["ipv4", "ipv6"])
IP = {"ipv4": "ip", "ipv6": "ip6"}
#: A few packets, quickly.
QUICK = {"count": 5, "interval_ms": 20, "timeout_ms": 300}
#: Where the responder answers, and to whom.
PORT = 7862
KEY = "a text that all of the fleet share, long enough"


def remark(router: Namespace, rule: str) -> None:
    """Have a router change what it forwards."""
    router.run("nft", "add table inet m")
    router.run("nft", "add chain inet m f { type filter hook forward priority -150; }")
    router.run("nft", f"add rule inet m f {rule}")


def rows(result: QosResult) -> dict[str, QosClass]:
    """Return the classes by name."""
    return {row.name: row for row in result.classes}


@contextlib.asynccontextmanager
async def responding(path4: Path4, *keys: str, ahead_s: float = 0.0) -> AsyncIterator[None]:
    """Have a worker's responder answer at the far end, by a clock that may be ahead; with KEY unless others are given."""
    clock = SystemClock()
    with path4.far.entered():
        serving = asyncio.ensure_future(
            respond(
                Policy(responder=PORT), keys or (KEY,), clock, lambda: clock.wall_us() + round(ahead_s * 1e6)
            )
        )
        await asyncio.sleep(0)
    try:
        yield
    finally:
        await cancel(serving)
