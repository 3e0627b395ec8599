"""Time: the host's clocks, and the controller's time as the sessions tell it.

Schedules are kept in the controller's time, carried on by a clock of this host that nobody can set and that goes
on during suspend. The host's wall clock only serves before the first contact, and to report how wrong it is.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from typing import Protocol

#: Answers of the controller that are kept; the one with the shortest round trip is believed.
_SAMPLES = 8
#: What was assumed before the first answer counts as one that was under way for so long.
_ASSUMED_US = 1_000_000
#: Before the first contact the wall clock is followed when it is set forward by more than this.
_FOLLOW_US = 1_000_000


class Clock(Protocol):
    """The clocks of a host. Tests and simulations bring their own."""

    def wall_us(self) -> int:
        """Microseconds since 1970-01-01 UTC by the clock that people and NTP set."""

    def steady_us(self) -> int:
        """Microseconds since some instant, by a clock that is never set and counts suspended time."""

    async def sleep(self, seconds: float) -> None:
        """Return when `seconds` have passed."""


class SystemClock:
    """The clocks of this host."""

    def __init__(self) -> None:
        # Linux: CLOCK_MONOTONIC stands still during suspend, CLOCK_BOOTTIME does not.
        self._steady = getattr(time, "CLOCK_BOOTTIME", None)

    def wall_us(self) -> int:
        return time.time_ns() // 1000

    def steady_us(self) -> int:
        if self._steady is None:
            return time.monotonic_ns() // 1000
        return time.clock_gettime_ns(self._steady) // 1000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ControllerTime:
    """The best knowledge of the controller's time.

    Until a controller was heard it is the wall clock, which is followed forward but never back. `kept` is what
    `keep` returned in an earlier life of the daemon: within one boot of the host it carries the controller's time
    over a restart exactly, after a reboot it keeps time from falling behind what was already seen.
    """

    def __init__(self, clock: Clock, *, boot_id: str = "", kept: str = "") -> None:
        self._clock = clock
        self._boot_id = boot_id
        #: Controller time minus steady time.
        self._base_us = clock.wall_us() - clock.steady_us()
        #: Of each answer that still holds: its round trip, and the controller's time minus steady time by it.
        self._samples: deque[tuple[int, int]] = deque(maxlen=_SAMPLES)
        self._synchronised = asyncio.Event()
        if kept:
            self._restore(kept)

    @property
    def synchronised(self) -> bool:
        """True once a controller was heard on this boot of the host."""
        return self._synchronised.is_set()

    @property
    def quickly_told(self) -> bool:
        """True when the time in force was told by an answer that was not under way for long."""
        return bool(self._samples) and min(self._samples)[0] < _ASSUMED_US

    async def wait_synchronised(self) -> None:
        """Return as soon as the controller's time is known."""
        await self._synchronised.wait()

    def now_us(self) -> int:
        """Return the controller's time, microseconds since 1970-01-01 UTC."""
        steady = self._clock.steady_us()
        self._follow_wall(steady)
        return self._base_us + steady

    def offset_ms(self) -> float | None:
        """Return the wall clock minus the controller's time, or None while that is unknown."""
        if not self.synchronised:
            return None
        return (self._clock.wall_us() - self.now_us()) / 1000

    def new_session(self) -> None:
        """Keep only the best of what the last session told: another gateway may have another clock."""
        if self._samples:
            self._samples = deque([min(self._samples)], maxlen=_SAMPLES)

    def observe(self, *, sent_steady_us: int, received_steady_us: int, controller_us: int) -> int:
        """Take in one answer of the controller; returns by how many microseconds the time was corrected.

        The answer's stamp is taken to have been made half-way between question and answer, so the error is at
        most half the round trip. Of the last few answers the quickest is used, unless this one shows that it does not
        hold any more: a gateway that is busy stamps seconds after it was asked, and must not spoil what is known.
        """
        if not self._samples:
            self._follow_wall(received_steady_us)
            self._samples.append((_ASSUMED_US, self._base_us))
        round_trip = max(0, received_steady_us - sent_steady_us)
        base = controller_us - (sent_steady_us + received_steady_us) // 2
        holding = [each for each in self._samples if abs(each[1] - base) <= (each[0] + round_trip) // 2 + 1]
        self._samples = deque([*holding, (round_trip, base)], maxlen=_SAMPLES)
        best = min(self._samples)[1]
        correction = best - self._base_us
        self._base_us = best
        self._synchronised.set()
        return correction

    def keep(self) -> str:
        """Return what to keep on disk for the next life of the daemon; empty while nothing is known."""
        if not self.synchronised:
            return ""
        return json.dumps({"boot_id": self._boot_id, "base_us": self._base_us, "seen_us": self.now_us()})

    def _follow_wall(self, steady_us: int) -> None:
        wall_base = self._clock.wall_us() - steady_us
        if not self.synchronised and wall_base > self._base_us + _FOLLOW_US:
            self._base_us = wall_base

    def _restore(self, kept: str) -> None:
        try:
            values = json.loads(kept)
            boot_id, base, seen = str(values["boot_id"]), int(values["base_us"]), int(values["seen_us"])
        except (ValueError, TypeError, KeyError):
            return  # it only improves the first seconds after a start; without it the wall clock serves
        if boot_id and boot_id == self._boot_id:
            self._base_us = base
            self._synchronised.set()
        elif seen > self._base_us + self._clock.steady_us():
            self._base_us = seen - self._clock.steady_us()
