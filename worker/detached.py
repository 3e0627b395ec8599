"""Blocking system calls that may hang: run in a daemon thread that nobody has to wait for.

A thread pool is no good here: the interpreter joins its threads at exit, so one hung name server or network
mount would keep the worker from stopping, and a few of them would starve every other user of the pool.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class TooManyHungCallsError(Exception):
    """So many calls of this sort have not come back that no further one is started."""


class Detached:
    """Runs calls of one sort in threads of their own, at most `limit` at a time."""

    def __init__(self, name: str, *, limit: int) -> None:
        self._name = name
        self._slots = threading.BoundedSemaphore(limit)
        self._limit = limit

    async def call(self, function: Callable[[], T], *, timeout_s: float) -> T:
        """Return what function returns; asyncio.TimeoutError when it takes longer, TooManyHungCallsError when full.

        After a time-out or cancellation the thread goes on by itself, and its slot stays taken until it ends.
        """
        if not self._slots.acquire(blocking=False):
            raise TooManyHungCallsError(
                f"{self._limit} calls ({self._name}) are under way and have not returned; no further one is started"
            )
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def deliver(result: T | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]  # None only where T allows it

        def work() -> None:
            result: T | None = None
            failure: BaseException | None = None
            try:
                result = function()
            except BaseException as error:  # noqa: BLE001  it is raised where the call was made
                failure = error
            finally:
                self._slots.release()
            try:
                loop.call_soon_threadsafe(deliver, result, failure)
            except RuntimeError:  # the loop was closed meanwhile: nobody waits any more
                return

        try:
            threading.Thread(target=work, name=self._name, daemon=True).start()
        except RuntimeError:  # the system gives no more threads
            self._slots.release()
            raise
        return await asyncio.wait_for(future, timeout_s)
