"""How long one reader of packets may go on before everything else on the event loop has its turn.

Whoever reads until nothing is left goes on for as long as somebody sends faster than that.
"""

from __future__ import annotations

import time

#: Reads of one packet each in a turn; those of a whole table count for more, and say so.
READS = 512
#: A turn is over after so long at the latest, and whatever read was begun then.
LONGEST_NS = 5_000_000


class Turn:
    """One turn, from when it is made."""

    __slots__ = ("_left", "_until_ns")

    def __init__(self, reads: int = READS) -> None:
        self._left = reads
        self._until_ns = time.monotonic_ns() + LONGEST_NS

    def goes_on(self) -> bool:
        """Say whether one more read belongs to the turn; to be asked before each."""
        self._left -= 1
        return self._left >= 0 and time.monotonic_ns() < self._until_ns
