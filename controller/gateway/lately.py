"""What was seen within the last minutes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Lately(Generic[_T]):
    """A set whose members leave it `seconds` after they were last added."""

    def __init__(self, seconds: float, *, now: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._now = now
        #: When each leaves, in that order.
        self._until: dict[_T, float] = {}

    def add(self, member: _T) -> None:
        """Take a member in, or keep it for longer."""
        now = self._now()
        self._until.pop(member, None)
        self._until[member] = now + self._seconds
        while (oldest := next(iter(self._until))) != member and self._until[oldest] <= now:
            del self._until[oldest]

    def __contains__(self, member: _T) -> bool:
        return self._until.get(member, 0.0) > self._now()

    def __len__(self) -> int:
        return len(self._until)
