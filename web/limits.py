"""Rate limits, counted in this process: each process of several lets as much through again."""

from __future__ import annotations

import math
import time

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from web.errors import TooManyRequestsError

#: Calls of one token or user.
CALLS = RateLimitItemPerMinute(600)
#: Calls of one address without a good token, and questions after the health.
STRANGERS = RateLimitItemPerMinute(600)
#: Logins from one address; passwords are dear to check.
LOGINS = RateLimitItemPerMinute(30)


class Limits:
    """Counts who asks how often."""

    def __init__(self) -> None:
        self._window = MovingWindowRateLimiter(MemoryStorage())

    def hit(self, limit: RateLimitItem, *keys: str) -> None:
        """Count one call, or raise TooManyRequestsError with the seconds to wait."""
        if self._window.hit(limit, *keys):
            return
        reset = self._window.get_window_stats(limit, *keys).reset_time
        raise TooManyRequestsError(max(1, math.ceil(reset - time.time())))
