"""The policy's limits on packets per second and bytes per day.

A run takes the most that it may need before it starts, so that runs at the same time cannot go beyond a limit together,
and gives back the bytes that it did not need. Only what this process has seen counts: a worker that starts anew has its
whole day before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from streamswarm import contract
from streamswarm.v1 import probe_pb2
from worker.clock import Clock
from worker.policy import Policy
from worker.probing import Need

_DAY_S = 86_400
#: Bytes are counted in steps of this time; a step counts until all of it lies more than a day back.
_STEP_S = 600

#: Parameters that multiply the packets of a run, by their names in whatever kind has them.
_MULTIPLIERS = ("count", "requests", "rounds", "paths", "probes_per_hop", "max_ttl")
#: Headers of a packet below its payload: IPv6 and ICMP or UDP.
_HEADERS_BYTES = 48


class TokenBucket:
    """Fills at `rate` per second up to `capacity`. What has been used already may take it below zero."""

    def __init__(self, clock: Clock, *, rate: float, capacity: float) -> None:
        self._clock = clock
        self._rate = rate
        self._capacity = capacity
        self._level = capacity
        self._filled_us = clock.steady_us()

    @property
    def level(self) -> float:
        """What may be taken now."""
        now = self._clock.steady_us()
        self._level = min(self._capacity, self._level + (now - self._filled_us) / 1e6 * self._rate)
        self._filled_us = now
        return self._level

    def offers(self, amount: float) -> bool:
        """True when the amount is there; one that is larger than the bucket needs it to be full."""
        return self.level > 0 and self.level >= min(amount, self._capacity)

    def take(self, amount: float) -> None:
        """Take an amount, whether it is there or not."""
        self._level = self.level - amount


@dataclass(frozen=True, kw_only=True)
class Taken:
    """Bytes that a run has taken, and the step of time in which it did."""

    step: int
    size: int


class Day:
    """Adds up the bytes of any 24 hours, at most one step of time longer."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._steps: dict[int, int] = {}

    @property
    def used(self) -> int:
        """Bytes taken in the last 24 hours."""
        oldest = self._now() - _DAY_S // _STEP_S
        self._steps = {step: size for step, size in self._steps.items() if step >= oldest}
        return sum(self._steps.values())

    def take(self, size: int) -> Taken:
        """Count bytes from now on."""
        taken = Taken(step=self._now(), size=size)
        self._steps[taken.step] = self._steps.get(taken.step, 0) + size
        return taken

    def settle(self, taken: Taken, size: int) -> None:
        """Count what was needed instead of what was taken, where that counts still."""
        if taken.step in self._steps:
            self._steps[taken.step] += size - taken.size

    def _now(self) -> int:
        return int(self._clock.steady_us() // (_STEP_S * 1_000_000))


class Budget:
    """Says whether a run fits into the policy's limits, and counts what runs take and use."""

    def __init__(self, policy: Policy, clock: Clock) -> None:
        packets = policy.packets_per_second
        # Ten seconds' worth: a run's packets are spread over the run, while it asks for them all at its start.
        self._packets = None if packets is None else TokenBucket(clock, rate=packets, capacity=packets * 10)
        self._day = Day(clock)
        self._policy = policy

    def refusal(self, need: Need) -> str:
        """Return why a run that needs so much must not start now, or the empty text."""
        most = self._policy.bytes_per_day
        if self._packets is not None and need.packets and not self._packets.offers(need.packets):
            return f"the policy's limit of {self._policy.packets_per_second} packets per second is used up"
        if most is None or not need.size:
            return ""
        if need.size > most:
            return (
                f"a run of this test may move {need.size} bytes by its parameters, more than the policy's limit of "
                f"{most} bytes per day; lower the test's limits, or raise `bytes_per_day`"
            )
        used = self._day.used
        if used + need.size > most:
            return (
                f"the policy's limit of {most} bytes per day is used up: {used} were used or are held for runs under way, "
                f"and this run may move {need.size}"
            )
        return ""

    def take(self, need: Need) -> Taken:
        """Take what a run may need."""
        if self._packets is not None:
            self._packets.take(need.packets)
        return self._day.take(need.size)

    def settle(self, taken: Taken, metrics: Any) -> None:
        """Count what a run really moved, by its metrics; None when it ended before it moved anything."""
        self._day.settle(taken, sum(getattr(metrics, name, 0) for name in ("bytes_sent", "bytes_received")))


def usual_need(spec: probe_pb2.Spec, addresses: int = 1) -> Need:
    """Return what a run of this Spec may need, by its parameters and addresses, each packet being answered, by an error that quotes it.

    It is the need of kinds whose module has no `need` that knows better. A connection counts as one packet for each
    time that it is asked for something: what TCP sends of its own is not counted.
    """
    if contract.kind_of(spec).target == "none":
        return Need(packets=0, size=0)
    values = contract.spec_values(spec)
    packets = math.prod(int(values.get(name) or 1) for name in _MULTIPLIERS) * addresses
    return Need(packets=packets, size=packets * (2 * int(values.get("size_bytes") or 0) + 3 * _HEADERS_BYTES))
