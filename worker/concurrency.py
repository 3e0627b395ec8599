"""Running coroutines together so that none is forgotten and no failure is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from worker.clock import Clock

T = TypeVar("T")


async def within(clock: Clock, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns, or raise asyncio.TimeoutError when the clock has passed `seconds` before."""
    running = asyncio.ensure_future(work)
    timer = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({running, timer}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            raise asyncio.TimeoutError
        return running.result()
    finally:
        await cancel(running, timer)
        # An error knows this frame by its traceback, and a task its error: each would live until Python's collector comes,
        # and with them whatever frame they met, a connection's call among them.
        del running, timer


async def first_of(*works: Coroutine[Any, Any, T]) -> T:
    """Run all, return or raise what the first one to end returned or raised, and cancel the others."""
    running = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        return next(work for work in running if work.done()).result()
    finally:
        await cancel(*running)
        running.clear()  # as above


async def cancel(*running: asyncio.Future[Any]) -> None:
    """Cancel what still runs and wait until it has ended; its results and errors are of no more interest."""
    for work in running:
        work.cancel()
    await asyncio.gather(*running, return_exceptions=True)
