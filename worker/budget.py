"""Token buckets for the policy's limits on packets per second and bytes per day."""

from __future__ import annotations

import math
from typing import Any

from streamswarm import contract
from worker.clock import Clock
from worker.policy import Policy

_DAY_S = 86_400.0


#: Parameters that multiply the packets of a run, by their names in whatever kind has them.
_MULTIPLIERS = ("count", "rounds", "paths", "probes_per_hop", "max_ttl")


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


class Budget:
    """Says whether a run fits into the policy's limits, and counts what runs have used."""

    def __init__(self, policy: Policy, clock: Clock) -> None:
        packets, day = policy.packets_per_second, policy.bytes_per_day
        # Ten seconds' worth: a run's packets are spread over the run, while it asks for them all at its start.
        self._packets = None if packets is None else TokenBucket(clock, rate=packets, capacity=packets * 10)
        self._bytes = None if day is None else TokenBucket(clock, rate=day / _DAY_S, capacity=day)
        self._policy = policy

    def refusal(self, spec: Any, addresses: int = 1) -> str:
        """Return why a run of this Spec must not start now, or the empty text after taking what it needs."""
        packets, size = planned(spec, addresses)
        if self._packets is not None and not self._packets.offers(packets):
            return f"the policy's limit of {self._policy.packets_per_second} packets per second is used up"
        if self._bytes is not None and not self._bytes.offers(size):
            return f"the policy's limit of {self._policy.bytes_per_day} bytes per day is used up"
        if self._packets is not None:
            self._packets.take(packets)
        if self._bytes is not None:
            self._bytes.take(size)
        return ""

    def settle(self, spec: Any, metrics: Any, addresses: int = 1) -> None:
        """Count what a run really used beyond what it was planned to."""
        if self._bytes is not None:
            used = sum(getattr(metrics, name, 0) for name in ("bytes_sent", "bytes_received"))
            self._bytes.take(used - planned(spec, addresses)[1])


def planned(spec: Any, addresses: int = 1) -> tuple[int, int]:
    """Return the packets and bytes that a run of this Spec may send at most, from its parameters and addresses."""
    values = contract.spec_values(spec)
    packets = math.prod(int(values.get(name) or 1) for name in _MULTIPLIERS) * addresses
    return packets, packets * int(values.get("size_bytes") or 0)
