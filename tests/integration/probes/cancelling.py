"""Cancelling a run wherever it may be, and what it leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from worker.probing import ProbeFailure

#: Each of so many steps of the event loop is one at which a run is cancelled; of those after them one in ever more.
_EACH_STEP = 150
#: More steps than any of these runs takes.
_MOST_STEPS = 20_000


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def settled(before: int) -> int:
    """Return how many descriptors are open once threads that are on their way out have ended."""
    now = descriptors()
    for _ in range(200):
        if now <= before:
            break
        await asyncio.sleep(0.005)
        now = descriptors()
    return now  # not counted once more: a server's thread may take up the connection just now


async def cancelled_at_every_step(run: Callable[[], Awaitable[object]]) -> int:
    """Cancel a run after ever more steps of the event loop until one is over by itself; return their number."""
    with contextlib.suppress(ProbeFailure):
        await run()  # what is made once is made now
    steps = -1
    while steps < _MOST_STEPS:
        steps += 1 if steps < _EACH_STEP else steps // 10
        before = descriptors()
        task = asyncio.ensure_future(run())
        for _ in range(steps):
            # Pauses let the network do its part, so that later steps are reached.
            await asyncio.sleep(0 if steps < 40 else 0.0005)
            if task.done():
                break
        over = task.done()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ProbeFailure):
            await task
        assert await settled(before) <= before, f"cancelled after {steps} steps, a descriptor stayed open"
        if over:
            return steps
    raise AssertionError(f"the run is not over after {_MOST_STEPS} steps")
