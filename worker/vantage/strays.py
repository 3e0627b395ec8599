"""Replies to, and errors for, echo requests that this worker never sent: a sign of somebody who forges them, or answers for others."""

from __future__ import annotations

import sys
from collections import deque

from worker.clock import Clock

if sys.platform.startswith("linux"):
    from worker.wire import icmp

#: So many of them within so long are more than what a network loses its way with.
MOST = 100
PERIOD_US = 60_000_000
#: What is wrong is told by this name.
ABOUT = "strays"


class Strays:
    """Compares the engine's count with what it was a minute ago."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: Steady time and count of each look within the period, and of the last one before it.
        self._looks: deque[tuple[int, int]] = deque()

    def look(self) -> dict[str, str]:
        """Return what is wrong, for people, by what it is about; empty while few come."""
        now_us = self._clock.steady_us()
        total = icmp.strays() if sys.platform.startswith("linux") else 0
        self._looks.append((now_us, total))
        while len(self._looks) > 2 and self._looks[1][0] <= now_us - PERIOD_US:
            self._looks.popleft()
        came = total - self._looks[0][1]
        if came <= MOST:
            return {}
        return {
            ABOUT: f"more than {MOST} echo replies or ICMP errors within a minute are about nothing that it sent lately: somebody forges "
            "them, another host answers for those that are tested, or they come very late; look with `tcpdump icmp or icmp6` where they come from"
        }
