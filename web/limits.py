"""Rate limits, counted in this process: each process of several lets as much through again.

Answers of the API tell the limit and what is left of it in the headers `RateLimit-Policy` and `RateLimit`
(draft-ietf-httpapi-ratelimit-headers).
"""

from __future__ import annotations

import math
import time

from flask import Response, g
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
        let_through = self._window.hit(limit, *keys)
        stats = self._window.get_window_stats(limit, *keys)
        wait_s = max(1, math.ceil(stats.reset_time - time.time()))
        g.rate_limit = {
            "RateLimit-Policy": f'"{keys[0]}";q={limit.amount};w={limit.get_expiry()}',
            "RateLimit": f'"{keys[0]}";r={stats.remaining};t={wait_s}',
        }
        if not let_through:
            raise TooManyRequestsError(wait_s)


def tell(response: Response) -> Response:
    """Add what is left of the limit that a call was counted under."""
    response.headers.update(g.get("rate_limit", {}))
    return response
