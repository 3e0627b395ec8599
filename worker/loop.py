"""Which event loop the worker runs on: uvloop where it is installed, which costs less for each run; else asyncio's."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from worker.wire import readiness, stamps

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a loop of its own, as asyncio.run does."""
    try:
        import uvloop
    except ImportError:  # not made for this system
        return asyncio.run(_watched(main))
    return uvloop.run(_watched(main))


async def _watched(main: Coroutine[Any, Any, T]) -> T:
    readiness.keep_watch()
    with stamps.kept_on():
        return await main
