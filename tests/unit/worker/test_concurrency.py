"""What ran together leaves nothing behind: no task, and no memory that waits for Python's collector."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from worker.clock import SystemClock
from worker.concurrency import first_of, within


class Call:
    """What a frame holds that is ended."""


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    """No collection happens by itself."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def _fails() -> None:
    await asyncio.sleep(0.01)
    raise ConnectionError("the stream is over")


async def _beside(calls: list[weakref.ref[Call]]) -> None:
    """Hold a call until cancelled, in the frame that meets the cancellation."""
    call = Call()
    calls.append(weakref.ref(call))
    await asyncio.sleep(60)
    del call


async def _slow(calls: list[weakref.ref[Call]]) -> None:
    """Meet another error than that of the others while being cancelled."""
    call = Call()
    calls.append(weakref.ref(call))
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError as error:
        raise ConnectionError("so is this one") from error
    del call


async def _first(calls: list[weakref.ref[Call]]) -> None:
    await first_of(_beside(calls), _slow(calls), _fails())


async def _in_time(calls: list[weakref.ref[Call]]) -> None:
    async def fails() -> None:
        call = Call()
        calls.append(weakref.ref(call))
        await _fails()

    await within(SystemClock(), 60.0, fails())


async def _too_late(calls: list[weakref.ref[Call]]) -> None:
    await within(SystemClock(), 0.01, _slow(calls))


@pytest.mark.parametrize("run", [_first, _in_time, _too_late])
async def test_what_failed_is_gone_at_once(run: Callable[[Any], Awaitable[None]]) -> None:
    """With all that the frames held through which errors and cancellations went."""
    calls: list[weakref.ref[Call]] = []
    with contextlib.suppress(ConnectionError, asyncio.TimeoutError):
        await run(calls)
    await asyncio.sleep(0)  # the loop lets go of what has ended in its next round
    assert calls
    assert [call() for call in calls] == [None] * len(calls)
