"""Rate limits, counted in this process: each process of several lets as much through again.

Answers of the API tell the limit and what is left of it in the headers `RateLimit-Policy` and `RateLimit`
(draft-ietf-httpapi-ratelimit-headers).
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from flask import Response, g

from web.errors import TooManyRequestsError


@dataclass(frozen=True)
class Limit:
    """So many calls in any minute."""

    amount: int


#: Seconds over which calls are counted.
WINDOW_S = 60
#: Calls of one token or user.
CALLS = Limit(600)
#: Calls of one address without a good token, and questions after the health.
STRANGERS = Limit(600)
#: Logins from one address; passwords are dear to check.
LOGINS = Limit(30)

_Key = tuple[Limit, tuple[str, ...]]


class Limits:
    """Counts who asks how often."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        #: When the calls of the last minute were let through, by whom they are counted under; the oldest first.
        self._calls: dict[_Key, deque[float]] = {}
        self._swept_at = clock()

    def hit(self, limit: Limit, *keys: str) -> None:
        """Count one call, or raise TooManyRequestsError with the seconds to wait."""
        now = self._clock()
        with self._lock:
            if now - self._swept_at >= WINDOW_S:
                self._sweep(now)
            calls = self._calls.setdefault((limit, keys), deque())
            while calls and calls[0] <= now - WINDOW_S:
                calls.popleft()
            let_through = len(calls) < limit.amount
            if let_through:
                calls.append(now)
            left, oldest = limit.amount - len(calls), calls[0]
        wait_s = max(1, math.ceil(oldest + WINDOW_S - now))
        g.rate_limit = {
            "RateLimit-Policy": f'"{keys[0]}";q={limit.amount};w={WINDOW_S}',
            "RateLimit": f'"{keys[0]}";r={left};t={wait_s}',
        }
        if not let_through:
            raise TooManyRequestsError(wait_s)

    def _sweep(self, now: float) -> None:
        """Forget whoever has not called for a minute: strangers have addresses without end."""
        self._swept_at = now
        gone = [key for key, calls in self._calls.items() if calls[-1] <= now - WINDOW_S]
        for key in gone:
            del self._calls[key]


def tell(response: Response) -> Response:
    """Add what is left of the limit that a call was counted under."""
    response.headers.update(g.get("rate_limit", {}))
    return response
