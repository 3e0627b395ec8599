"""A time limit around a piece of a run that costs one timer, where asyncio.wait_for would cost a task."""

from __future__ import annotations

import asyncio
import sys
from types import TracebackType

if sys.version_info >= (3, 11):
    from asyncio import timeout as time_limit
else:

    class time_limit:  # noqa: N801  stands for asyncio.timeout, which Python 3.10 does not have
        """Raise asyncio.TimeoutError from a block that takes longer than `seconds`."""

        def __init__(self, seconds: float) -> None:
            self._seconds = seconds
            self._expired = False

        async def __aenter__(self) -> time_limit:
            loop = asyncio.get_running_loop()
            self._task = asyncio.current_task(loop)
            self._timer = loop.call_later(self._seconds, self._expire)
            return self

        async def __aexit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            self._timer.cancel()
            if self._expired and kind is asyncio.CancelledError:
                raise asyncio.TimeoutError from error

        def _expire(self) -> None:
            self._expired = True
            if self._task is not None:
                self._task.cancel()


__all__ = ["time_limit"]
