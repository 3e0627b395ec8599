"""Sequence numbers of a lane: which request holds each, until when, and which of them a transmit stamp is about."""

from __future__ import annotations

import secrets
from array import array
from collections import deque

from worker.wire.icmp.run import Run

SPACE = 0x10000


class Numbers:
    """The space of sequence numbers of one identifier.

    A number that has been used is held until the time of its request is over; only then it is used again.
    """

    def __init__(self) -> None:
        #: By number: the run that holds it, and the index of its request.
        self.runs: list[Run | None] = [None] * SPACE
        self.indexes = array("I", bytes(4 * SPACE))
        self.held = 0
        #: Numbers in the order of their release, for each length of time that they are held.
        self._resting: dict[float, deque[tuple[float, range]]] = {}
        #: Next number to be used, and the next after those that were offered.
        self._next = self._offered = secrets.randbelow(SPACE)
        #: Packets since the stamps' numbers began anew; the sequence number of each by its number.
        self._count = 0
        self._stamped = array("H", bytes(2 * SPACE))

    def offer_anew(self) -> None:
        """Begin to offer numbers again from the first that was not used."""
        self._offered = self._next

    def offer(self, most: int) -> range:
        """Return the next free numbers that follow each other; the caller knows that there are enough."""
        at = self._offered
        while self.runs[at] is not None:  # held by a request with a longer time-out
            at = (at + 1) % SPACE
        end = min(at + most, SPACE)
        stretch = self.runs[at:end]
        if any(stretch):
            end = at + next(n for n, run in enumerate(stretch) if run is not None)
        self._offered = end % SPACE
        return range(at, end)

    def hold(self, numbers: range, run: Run, first: int, *, now_s: float, rest_s: float) -> None:
        """Note that requests of a run from `first` on have left with these numbers, held for so long from now on."""
        count = len(numbers)
        if count == 1:
            self.runs[numbers.start] = run
            self.indexes[numbers.start] = first
            self._stamped[self._count % SPACE] = numbers.start
            self._count += 1
        else:
            self.runs[numbers.start : numbers.stop] = [run] * count
            self.indexes[numbers.start : numbers.stop] = array("I", range(first, first + count))
            self._count_stamps(numbers)
        self.held += count
        self._resting.setdefault(rest_s, deque()).append((now_s + rest_s, numbers))
        self._next = numbers.stop % SPACE

    def release(self, now_s: float) -> None:
        """Let go of those whose time is over."""
        for rest_s, waiting in list(self._resting.items()):
            while waiting and waiting[0][0] <= now_s:
                numbers = waiting.popleft()[1]
                self.runs[numbers.start : numbers.stop] = [None] * len(numbers)
                self.held -= len(numbers)
            if not waiting:
                del self._resting[rest_s]

    def begin_count(self) -> None:
        """Have stamps counted from 0 again."""
        self._count = 0

    def of_stamp(self, key: int) -> int:
        """Return the sequence number of the packet that a stamp is about."""
        return self._stamped[key % SPACE]

    def of_stamps(self, key: int, count: int) -> array[int] | None:
        """Return those of consecutive stamps; None where they do not lie side by side."""
        at = key % SPACE
        return None if at + count > SPACE else self._stamped[at : at + count]

    def clear(self) -> None:
        """Let go of all."""
        self.runs.clear()
        self._resting.clear()

    def _count_stamps(self, numbers: range) -> None:
        """Note which numbers the transmit stamps of consecutive packets will have."""
        at = self._count % SPACE
        fits = min(len(numbers), SPACE - at)
        self._stamped[at : at + fits] = array("H", numbers[:fits])
        self._stamped[: len(numbers) - fits] = array("H", numbers[fits:])
        self._count += len(numbers)
