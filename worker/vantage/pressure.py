"""What on this host disturbs measurements without stopping them: a processor taken away, programs in a queue, NIC errors."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from worker.clock import Clock
from worker.wire import netlink

#: Share of processor time that the hypervisor may give to others; beyond it user-space time-outs come late.
_MOST_STEAL_PCT = 20.0
#: Share of the last minute in which some program waited for a processor.
_MOST_WAITING_PCT = 80.0
#: A healthy link has none; a few can be a cable that was plugged in.
_MOST_ERRORS_PER_S = 1.0
_PRESSURE = Path("/proc/pressure/cpu")
_WAITING = re.compile(r"^some .*\bavg60=([0-9.]+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class _Sample:
    at_us: int
    #: Seconds of processor time taken by the hypervisor, and altogether; None where the system does not tell.
    steal_s: float | None
    total_s: float
    #: Errors of each interface, by its name.
    errors: dict[str, int]


class Pressure:
    """Compares each look with the one before."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._before: _Sample | None = None

    def look(self, interfaces: Iterable[int]) -> dict[str, str]:
        """Return what is wrong, for people, by what it is about; the interfaces are those that runs go by."""
        now, before = self._sample(interfaces), self._before
        self._before = now
        found: dict[str, str] = {}
        waiting = _waiting_pct()
        if waiting is not None and waiting > _MOST_WAITING_PCT:
            found["queue"] = f"programs waited for a processor in {waiting:.0f} % of the last minute"
        if before is None or now.at_us <= before.at_us:
            return found
        if now.steal_s is not None and before.steal_s is not None and now.total_s > before.total_s:
            steal_pct = 100 * (now.steal_s - before.steal_s) / (now.total_s - before.total_s)
            if steal_pct > _MOST_STEAL_PCT:
                found["steal"] = f"the hypervisor takes {steal_pct:.0f} % of the processor time away"
        seconds = (now.at_us - before.at_us) / 1e6
        for name, count in now.errors.items():
            rate = (count - before.errors.get(name, count)) / seconds
            if rate > _MOST_ERRORS_PER_S:
                found[f"errors of {name}"] = f"the interface {name} counts {rate:.0f} errors per second"
        return found

    def _sample(self, interfaces: Iterable[int]) -> _Sample:
        times = psutil.cpu_times()._asdict()
        # The kernel counts guests in user and nice already.
        total_s = sum(spent for name, spent in times.items() if name not in ("guest", "guest_nice"))
        errors = {}
        for index in interfaces:
            try:
                interface = netlink.link(index)
            except OSError:
                continue  # it is gone, which others tell
            errors[interface.name] = interface.errors
        return _Sample(
            at_us=self._clock.steady_us(), steal_s=times.get("steal"), total_s=total_s, errors=errors
        )


def _waiting_pct() -> float | None:
    """Return the share of the last minute in which programs waited for a processor; None where it is not counted."""
    try:
        text = _PRESSURE.read_text(encoding="ascii")
    except OSError:
        return None
    match = _WAITING.search(text)
    return float(match.group(1)) if match else None
