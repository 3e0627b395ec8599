"""The time that removal goes by: what is too old is too old for all clocks, and for none that has leapt.

What is removed never comes back, so nothing is removed on the word of one clock. A keeper removes for age only while its
own clock and the database's agree. They may be one clock, on one machine, and leap together: therefore the time that both
tell is believed step by step, at most two hours further in each round, which comes once an hour. Clocks that are wrong for
some hours cost those hours of the oldest results, whatever they say; keepers that were away for a week are a week behind,
and catch up an hour each hour. Until then more is kept, which harms nobody. A clock that goes back takes nothing of what was
believed with it: the earlier of both is gone by.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, text

_log = logging.getLogger(__name__)

#: So far two clocks may be apart and still agree: far less than the day that is the least that goes at once.
AGREEMENT = dt.timedelta(minutes=5)
#: So far the believed time goes ahead in one round at the most.
STRIDE = dt.timedelta(hours=2)
_READINGS = 3


@dataclass(frozen=True, kw_only=True)
class Clocks:
    """What the database's clock tells, and how far this process's own is ahead of it."""

    database: dt.datetime
    offset: dt.timedelta

    @property
    def agree(self) -> bool:
        """Whether they tell the same time, but for what does no harm."""
        return abs(self.offset) <= AGREEMENT


def read_clocks(connection: Connection, *, own: Callable[[], float] = time.time) -> Clocks:
    """Ask the database for its time, halving the way there and back; of a few answers the quickest counts."""
    quickest: tuple[float, dt.datetime, dt.timedelta] | None = None
    for _ in range(_READINGS):
        begun, asked_at = time.monotonic(), own()
        told: dt.datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        took = time.monotonic() - begun
        if quickest is None or took < quickest[0]:
            ahead = dt.datetime.fromtimestamp(asked_at + took / 2, dt.UTC) - told
            quickest = (took, told, ahead)
    if quickest is None:
        raise RuntimeError("there was no reading")
    return Clocks(database=quickest[1], offset=quickest[2])


def advance(connection: Connection, clocks: Clocks) -> dt.datetime | None:
    """Let the believed time go ahead by one stride at the most, and return it; None while the clocks disagree."""
    if not clocks.agree:
        _log.error(
            "nothing is removed for its age: this keeper's clock is %s %s the database's; set the one that is wrong (NTP)",
            abs(clocks.offset),
            "ahead of" if clocks.offset > dt.timedelta(0) else "behind",
        )
        return None
    reached: dt.datetime = connection.execute(
        text(
            "INSERT INTO upkeep_clock (id, reached) VALUES (1, :told) ON CONFLICT (id) DO UPDATE "
            "SET reached = greatest(upkeep_clock.reached, least(EXCLUDED.reached, upkeep_clock.reached + :stride)) "
            "RETURNING reached"
        ),
        {"told": clocks.database, "stride": STRIDE},
    ).scalar_one()
    if reached < clocks.database - STRIDE:
        _log.warning(
            "what is too old goes by %s, %s behind the clocks: they have leapt, or no keeper was there for so long; set "
            "them if they are wrong (NTP), and otherwise it catches up by itself, an hour each hour",
            reached.isoformat(timespec="minutes"),
            clocks.database - reached,
        )
    return min(reached, clocks.database)


def read(connection: Connection) -> dt.datetime:
    """Return the believed time; the database's as long as no keeper has looked."""
    believed: dt.datetime = connection.execute(
        text("SELECT least(now(), coalesce((SELECT reached FROM upkeep_clock), now()))")
    ).scalar_one()
    return believed


def bring_back(connection: Connection) -> None:
    """Bring back what is called gone until a time to come, as it was where a database's clock had leapt and removed.

    What is due from now on cannot have been removed; of anything before, nobody knows, and it stays gone. A clock that
    tells an earlier time than was believed already brings nothing back.
    """
    kinds = connection.execute(
        text(
            "UPDATE expiries SET gone_before = latest.told FROM ("
            "  SELECT greatest(now(), coalesce((SELECT reached FROM upkeep_clock), now())) AS told) latest "
            "WHERE gone_before > latest.told RETURNING kind"
        )
    ).scalars()
    back = sorted(set(kinds))
    if back:
        _log.warning(
            "the database's clock was set back: results of %s were called gone until a time to come, and count from now on",
            ", ".join(back),
        )
