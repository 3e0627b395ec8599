"""The numbers that tell the probes of an engine apart, drawn by chance: who cannot see a probe cannot answer for it."""

from __future__ import annotations

import os
import struct
from array import array

from worker.wire.trace.plan import Probe

_ALL = array("H", range(1, 65_536))
#: Slots that are drawn at a time, each by a random number of 16 bits.
_DRAWS = 256
_NUMBERS = struct.Struct(f"={_DRAWS}H")


class Slots:
    """Probes by their slots, 1 to 65,535."""

    def __init__(self) -> None:
        #: The probe that waits for what comes for a slot, where there is one.
        self.probes: dict[int, Probe] = {}
        #: Those to draw from; and those that were given back since, so that what comes late for one meets nobody.
        self._fresh = _ALL[:]
        self._used = array("H")
        #: Those that have been drawn, the next one last.
        self._drawn: list[int] = []

    def assign(self, probe: Probe) -> bool:
        """Give a probe a slot that nobody else has; False when all are in use."""
        drawn = self._drawn
        if not (drawn or self._draw()):
            return False
        slot = probe.slot = drawn.pop()
        self.probes[slot] = probe
        return True

    def give_back(self, probes: list[Probe]) -> None:
        """Have probes wait for nothing any more; again does nothing."""
        waiting, used = self.probes, self._used
        for probe in probes:
            slot = probe.slot
            if slot:
                del waiting[slot]
                used.append(slot)
                probe.slot = 0

    def _draw(self) -> bool:
        """Draw some slots, in the order of chance; False when there are none."""
        if not self._fresh:
            self._fresh, self._used = self._used, self._fresh
        fresh, drawn = self._fresh, self._drawn
        count = min(len(fresh), _DRAWS)
        for chance in _NUMBERS.unpack(os.urandom(_NUMBERS.size))[:count]:
            at = chance * len(fresh) >> 16
            drawn.append(fresh[at])
            fresh[at] = fresh[-1]
            fresh.pop()
        return bool(drawn)
