"""The engine's one timer, on the event loop that workers have."""

from __future__ import annotations

import asyncio
import sys
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from worker import loop

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the engine is of Linux alone")


def test_looks_that_are_due_at_once_are_had() -> None:
    """On a busy host a look may be due when it is asked for; uvloop's handle for that knows no instant."""
    from worker.wire.trace.engine import Engine

    looked: list[str] = []

    async def wake_twice() -> None:
        engine = Engine(asyncio.get_running_loop())
        for name in ("first", "second"):
            course = SimpleNamespace(look=0, step=lambda _now_s, name=name: looked.append(name))
            engine._wake(cast("Any", course), time.monotonic() - 1)
        await asyncio.sleep(0.02)

    loop.run(wake_twice())
    assert looked == ["first", "second"]
