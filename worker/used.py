"""Which due instants of a job have been used: none of them runs again, whatever the clocks do. Pure.

An instant is used once its run has started, or once there was a reason of its own why it did not (the run before
was under way, the spool was full). Instants that went by while nothing could start are not used: when time is set
back they come again, and then they run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from streamswarm.schedules import Schedule

#: Ranges that are kept of a job. Where there are more, the shortest hole between two of them is closed.
_MOST = 16


@dataclass(frozen=True)
class Used:
    """The used instants of one job."""

    #: From one instant to another, both included; in order, and apart from each other.
    ranges: tuple[tuple[int, int], ...] = ()

    @property
    def last_us(self) -> int | None:
        """The last of all; None when there is none."""
        return self.ranges[-1][1] if self.ranges else None

    def __contains__(self, due_us: int) -> bool:
        return any(from_us <= due_us <= to_us for from_us, to_us in self.ranges)

    def adding(self, grid: Schedule, due_us: int) -> Used:
        """Return these with one more."""
        if due_us in self:
            return self
        earlier = tuple(each for each in self.ranges if each[1] < due_us)
        later = self.ranges[len(earlier) :]
        from_us = due_us
        if earlier and _follows(grid, earlier[-1][1], due_us):
            from_us = earlier[-1][0]
            earlier = earlier[:-1]
        return Used(_bounded((*earlier, (from_us, due_us), *later)))

    def next_unused(self, grid: Schedule, instant_us: int) -> int | None:
        """Return the first due instant after another that is not used; None when there is none."""
        due = grid.next_after(instant_us)
        for from_us, to_us in self.ranges:
            if due is not None and from_us <= due <= to_us:
                due = grid.next_after(to_us)
        return due

    def last_unused(self, grid: Schedule, instant_us: int) -> int | None:
        """Return the last due instant until another that is not used; None when there is none."""
        due = grid.last_until(instant_us)
        for from_us, to_us in reversed(self.ranges):
            if due is not None and from_us <= due <= to_us:
                due = grid.last_until(from_us - 1)
        return due

    def unused(self, grid: Schedule, first_us: int, last_us: int) -> Iterator[int]:
        """Yield the due instants in [first, last] that are not used, in order."""
        due = self.next_unused(grid, first_us - 1)
        while due is not None and due <= last_us:
            yield due
            due = self.next_unused(grid, due)

    def count_unused(self, grid: Schedule, first_us: int, last_us: int) -> int:
        """Return how many due instants in [first, last] are not used."""
        return grid.count(first_us, last_us) - sum(
            grid.count(max(first_us, from_us), min(last_us, to_us)) for from_us, to_us in self.ranges
        )


def _follows(grid: Schedule, last_us: int, due_us: int) -> bool:
    """Whether no other instant is due between two."""
    following = grid.next_after(last_us)
    return following is None or following >= due_us


def _bounded(ranges: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    if len(ranges) <= _MOST:
        return ranges
    holes = [later[0] - earlier[1] for earlier, later in pairwise(ranges)]
    at = holes.index(min(holes))
    return (*ranges[:at], (ranges[at][0], ranges[at + 1][1]), *ranges[at + 2 :])
