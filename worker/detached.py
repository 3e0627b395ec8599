"""Blocking system calls that may hang: run in a daemon thread that nobody has to wait for.

A thread pool is no good here: the interpreter joins its threads at exit, so one hung name server or network
mount would keep the worker from stopping, and a few of them would starve every other user of the pool.
"""

from __future__ import annotations

import asyncio
import errno
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class TooManyHungCallsError(Exception):
    """So many calls of this sort have not come back that no further one is started."""


class Detached:
    """Runs calls of one sort in threads of their own, at most `limit` at a time; further ones wait for a slot."""

    def __init__(self, name: str, *, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._lock = threading.Lock()
        self._free = limit
        #: Those that wait for a slot, first come first served, each with its loop.
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    async def call(self, function: Callable[[], T], *, timeout_s: float) -> T:
        """Return what function returns; asyncio.TimeoutError when it takes longer than `timeout_s`.

        Waits as long for a slot before, and raises TooManyHungCallsError when none comes free, OSError with ENOMEM when the
        system gives no thread. After a time-out or
        cancellation the thread goes on by itself, and its slot stays taken until it ends.
        """
        await self._take_slot(timeout_s)
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
                self._give_slot()
            try:
                loop.call_soon_threadsafe(deliver, result, failure)
            except RuntimeError:  # the loop was closed meanwhile: nobody waits any more
                return

        try:
            threading.Thread(target=work, name=self._name, daemon=True).start()
        except RuntimeError as error:
            self._give_slot()
            raise OSError(errno.ENOMEM, f"the system gives no further thread ({self._name})") from error
        return await asyncio.wait_for(future, timeout_s)

    async def _take_slot(self, timeout_s: float) -> None:
        """Take a slot, or wait until one is handed over."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._free:
                self._free -= 1
                return
            handed: asyncio.Future[None] = loop.create_future()
            self._waiting.append((loop, handed))
        try:
            await asyncio.wait({handed}, timeout=timeout_s)
        except asyncio.CancelledError:
            if not handed.cancel():
                self._give_slot()
            raise
        if handed.done():
            return
        handed.cancel()
        with self._lock:
            # Gone already where a slot is on its way; `_hand_over` passes it on.
            if (loop, handed) in self._waiting:
                self._waiting.remove((loop, handed))
        raise TooManyHungCallsError(
            f"{self._limit} calls ({self._name}) are under way and none has returned within {timeout_s:g} s; "
            f"no further one is started"
        )

    def _give_slot(self) -> None:
        """Hand a slot to the next that waits, or keep it free; called from any thread."""
        while True:
            with self._lock:
                if not self._waiting:
                    self._free += 1
                    return
                loop, handed = self._waiting.popleft()
            try:
                loop.call_soon_threadsafe(self._hand_over, handed)
            except RuntimeError:  # that loop was closed: nobody waits there any more
                continue
            return

    def _hand_over(self, handed: asyncio.Future[None]) -> None:
        if handed.done():  # given up meanwhile
            self._give_slot()
        else:
            handed.set_result(None)
