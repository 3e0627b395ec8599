"""Due instants: the grid of a schedule, and how instants are shown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from streamswarm.v1 import probe_pb2

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
#: Jobs that want to run more often are not run: nothing here is meant to be a load generator.
SHORTEST_INTERVAL_US = 100_000


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The due instants of one schedule, all in microseconds since 1970-01-01 UTC."""

    #: The first instant that can be.
    anchor_us: int
    #: Distance of two instants; 0 when there is one only, at the anchor.
    interval_us: int
    #: Instants before this do not count.
    starts_us: int | None = None
    #: Instants from here on do not count.
    ends_us: int | None = None

    @classmethod
    def of(cls, schedule: probe_pb2.Schedule) -> Grid:
        """Return the grid of a Schedule; raises ValueError for one that cannot be kept."""
        if schedule.interval_us < 0 or 0 < schedule.interval_us < SHORTEST_INTERVAL_US:
            raise ValueError(
                f"its interval is {schedule.interval_us} µs; {SHORTEST_INTERVAL_US} µs is the shortest, 0 means once"
            )
        return cls(
            anchor_us=schedule.anchor_us,
            interval_us=schedule.interval_us,
            starts_us=schedule.starts_at_us if schedule.HasField("starts_at_us") else None,
            ends_us=schedule.ends_at_us if schedule.HasField("ends_at_us") else None,
        )

    def next_after(self, instant_us: int) -> int | None:
        """Return the first due instant later than `instant_us`, or None when there is none."""
        earliest = max(
            instant_us + 1, self.anchor_us, self.anchor_us if self.starts_us is None else self.starts_us
        )
        if self.interval_us == 0:
            due = self.anchor_us
            if due < earliest:
                return None
        else:
            steps = -((self.anchor_us - earliest) // self.interval_us)
            due = self.anchor_us + steps * self.interval_us
        return None if self.ends_us is not None and due >= self.ends_us else due

    def last_until(self, instant_us: int) -> int | None:
        """Return the last due instant that is not later than `instant_us`, or None when there is none."""
        latest = instant_us if self.ends_us is None else min(instant_us, self.ends_us - 1)
        if latest < self.anchor_us:
            return None
        due = self.anchor_us
        if self.interval_us:
            due += (latest - self.anchor_us) // self.interval_us * self.interval_us
        return None if self.starts_us is not None and due < self.starts_us else due

    def count(self, first_us: int, last_us: int) -> int:
        """Return how many due instants there are from one due instant to another, both included."""
        if last_us < first_us:
            return 0
        return 1 if self.interval_us == 0 else (last_us - first_us) // self.interval_us + 1


def shown_instant(instant_us: int) -> str:
    """Return an instant as people and machines read it; far-off ones as the number they are."""
    try:
        moment = _EPOCH + timedelta(microseconds=instant_us)
    except OverflowError:
        return f"{instant_us} µs since 1970"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
