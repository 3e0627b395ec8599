"""The numbers that tell the probes of an engine apart, drawn by chance: who cannot see a probe cannot answer for it."""

from __future__ import annotations

import os
import struct

from worker.wire.trace.plan import Probe

_COUNT = 65_536
_ALL = tuple(range(1, _COUNT))
#: Random numbers of 16 bits, so many at a time.
_DRAWS = struct.Struct("=256H")


class Slots:
    """Probes by their slots, 1 to 65,535."""

    def __init__(self) -> None:
        #: The probe that waits for what comes for a slot; None for nobody, as in the first, which is no slot.
        self.probes: list[Probe | None] = [None] * _COUNT
        #: Those to draw from; and those that were given back since, so that what comes late for one meets nobody.
        self._fresh = list(_ALL)
        self._used: list[int] = []
        self._draws: list[int] = []

    def assign(self, probe: Probe) -> bool:
        """Give a probe a slot that nobody else has; False when all are in use."""
        fresh = self._fresh
        if not fresh:
            fresh = self._fresh = self._used
            self._used = []
            if not fresh:
                return False
        draws = self._draws
        if not draws:
            draws.extend(_DRAWS.unpack(os.urandom(_DRAWS.size)))
        at = draws.pop() * len(fresh) >> 16
        slot = fresh[at]
        fresh[at] = fresh[-1]
        fresh.pop()
        self.probes[slot] = probe
        probe.slot = slot
        return True

    def give_back(self, probe: Probe) -> None:
        """Have a probe wait for nothing any more; again does nothing."""
        slot = probe.slot
        if slot:
            self.probes[slot] = None
            self._used.append(slot)
            probe.slot = 0
