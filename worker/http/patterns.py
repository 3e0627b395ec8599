"""Searching for regular expressions of tests so that neither a clumsy one nor a hostile answer holds up the worker.

The library `regex` gives up after a time, and lets other threads run meanwhile; `re` does neither.
"""

from __future__ import annotations

import asyncio

from streamswarm.patterns import compiled
from worker.detached import Detached

#: Longest time that one search may take.
LONGEST_S = 1.0
_SEARCHES = Detached("searching for a regular expression", limit=64)


class PatternTooSlowError(Exception):
    """The search did not end in time."""


async def occurs(text: str, content: str) -> bool:
    """Return whether a regular expression matches anywhere; raises PatternError or PatternTooSlowError.

    Raises TooManyHungCallsError when so many searches are under way that no further one is started.
    """
    pattern = compiled(text)
    try:
        found = await _SEARCHES.call(
            lambda: pattern.search(content, timeout=LONGEST_S, concurrent=True), timeout_s=2 * LONGEST_S
        )
    except (TimeoutError, asyncio.TimeoutError) as error:
        raise PatternTooSlowError(
            f"searching {len(content)} characters took longer than {LONGEST_S:g} s"
        ) from error
    return found is not None
