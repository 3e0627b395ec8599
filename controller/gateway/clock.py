"""The database's clock, as a gateway knows it: how far its own is away from it, and what decides about results.

All gateways share the database, so its clock is the controller's. It is asked at the start and every minute, and what it
said goes on with the time that has passed since: whoever sets this host's clock changes nothing about it. An answer is
taken to have been made half-way between question and answer; of a few the quickest counts.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from controller.gateway.database import Database, is_transient
from controller.store.health import CLOCK_LIMIT_MS

_log = logging.getLogger(__name__)

_INTERVAL_S = 60.0
_READINGS = 3


def _elapsed() -> float:
    """Return seconds that go on while the host sleeps, and that no clock's setting moves."""
    # Elsewhere than on Linux the monotonic clock is all there is.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class DatabaseClock:
    """Measures the database's clock; `run` is its task."""

    def __init__(
        self,
        database: Database,
        *,
        wall: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = _elapsed,
    ) -> None:
        self._database = database
        self._wall = wall
        self._elapsed = elapsed
        #: The database's time, seconds since 1970, at an instant of `elapsed`; None before the first answer.
        self._known: tuple[float, float] | None = None
        #: How long the question that told it was on its way, there and back.
        self.round_trip_ms: float | None = None
        #: How far this host's clock was ahead of the database's at the last measurement.
        self.offset_ms: float | None = None
        self._off = False

    def now_us(self) -> int:
        """Return the database's time in microseconds since 1970; this host's own before the first measurement."""
        if self._known is None:
            return int(self._wall() * 1_000_000)
        told, at = self._known
        return int((told + self._elapsed() - at) * 1_000_000)

    def gauges(self) -> dict[str, float]:
        """Return what was measured."""
        if self.offset_ms is None or self.round_trip_ms is None:
            return {}
        return {
            "clock_offset_ms": round(self.offset_ms, 3),
            "database_round_trip_ms": round(self.round_trip_ms, 3),
        }

    async def run(self, *, interval_s: float = _INTERVAL_S) -> None:
        """Measure until cancelled; while the database does not answer the last measurement stands."""
        while True:
            try:
                await self.measure()
            except Exception as error:
                if not is_transient(error):
                    raise
                _log.info("the database's clock cannot be asked now: %s", error)
            await asyncio.sleep(interval_s)

    async def measure(self) -> None:
        """Ask a few times, and take the quickest answer; raises what the database raises."""
        quickest = None
        async with self._database.connection() as connection:
            for _ in range(_READINGS):
                begun = self._elapsed()
                cursor = await connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
                row = await cursor.fetchone()
                ended, wall = self._elapsed(), self._wall()
                if row is None:
                    raise RuntimeError("SELECT gave no row")
                took = ended - begun
                if quickest is None or took < quickest[0]:
                    quickest = (took, float(row[0]) + took / 2, ended, wall)
        if quickest is None:
            raise RuntimeError("there was no reading")
        took, told, at, wall = quickest
        self._known = (told, at)
        self.round_trip_ms, self.offset_ms = took * 1000, (wall - told) * 1000
        self._tell(self.offset_ms, within_ms=self.round_trip_ms / 2)

    def _tell(self, offset_ms: float, *, within_ms: float) -> None:
        off = abs(offset_ms) - within_ms > CLOCK_LIMIT_MS
        if off and not self._off:
            _log.warning(
                "this host's clock is %.1f s %s the database's: workers follow that one, certificates are judged by this; "
                "set it (NTP) here or there",
                abs(offset_ms) / 1000,
                "ahead of" if offset_ms > 0 else "behind",
            )
        elif self._off and not off:
            _log.info(
                "this host's clock agrees with the database's again, within %.1f s", abs(offset_ms) / 1000
            )
        self._off = off
