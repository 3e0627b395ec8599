"""What the replies of a ping say, whether they are of one host or of many: counts, and statistics of their times.

A run may have a million replies, so that they are looked at column by column rather than one by one.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from streamswarm.v1.probes.ping_pb2 import PingResult
from worker.evaluation import statistics
from worker.wire.echo import EchoRecord

#: Upper bounds of a histogram's steps, in milliseconds: from 50 µs on they double up to 26.2 s.
_BOUNDS_MS = tuple(0.05 * 2**step for step in range(20))


@dataclass(frozen=True, kw_only=True)
class Replies:
    """The replies of a run, sorted out."""

    record: EchoRecord
    #: Round-trip times in nanoseconds by request, of the first replies that came within the time-out (RFC 7680).
    in_time: dict[int, int]
    #: Requests whose first reply came later.
    late: int
    #: First replies that came after one to a later request to the same host (RFC 4737 tells of one flow).
    reordered: int
    #: Every reply in time has its time from the kernel's stamps alone.
    kernel: bool

    @classmethod
    def of(cls, record: EchoRecord, timeout_ms: int, hosts: int = 1) -> Replies:
        """Sort out the replies of a record whose request `n` went to host `n % hosts`."""
        indexes, rtts, kernels = record.replies.requests, record.replies.rtts_ns, record.replies.kernels
        first = dict(zip(indexes, rtts, strict=True))
        limit_ns = timeout_ms * 1_000_000
        in_time = first
        if first and max(first.values()) > limit_ns:
            in_time = {index: rtt_ns for index, rtt_ns in first.items() if rtt_ns <= limit_ns}
        kernel = False not in kernels
        if not kernel:
            by_kernel = dict(zip(indexes, kernels, strict=False))
            kernel = all(by_kernel[index] for index in in_time)
        return cls(
            record=record,
            in_time=in_time,
            late=len(first) - len(in_time),
            reordered=_reordered(indexes, hosts),
            kernel=kernel,
        )

    def counted(self) -> PingResult:
        """Return a result with all that is counted; loss stays unset when this host itself may have lost replies."""
        record = self.record
        answered = set(record.replies.requests) if record.errors else set()
        result = PingResult(
            packets_sent=record.sent,
            packets_received=len(self.in_time),
            icmp_errors=len({error.index for error in record.errors} - answered),
            bytes_sent=record.bytes_sent,
            bytes_received=record.bytes_received,
        )
        if record.all_taken:
            # RFC 5560 tells of duplicates.
            result.duplicates, result.reordered, result.late = record.duplicates, self.reordered, self.late
            result.dropped_here = record.dropped_here
        if record.sent and not (record.dropped_here and len(self.in_time) < record.sent):
            result.loss_pct = 100.0 * (record.sent - len(self.in_time)) / record.sent
        return result

    @cached_property
    def ordered_ms(self) -> list[float]:
        """The round-trip times of replies in time, the smallest first, in milliseconds."""
        return sorted(rtt_ns / 1e6 for rtt_ns in self.in_time.values())

    def histogram(self) -> dict[str, int]:
        """Return how many round-trip times lie in each step, by its upper bound in milliseconds; empty for too few."""
        if len(self.in_time) < statistics.SAMPLES_FOR_P95:
            return {}
        found = statistics.histogram(self.ordered_ms, _BOUNDS_MS)
        return {f"{bound:g}": count for bound, count in found.items()}

    def add_times(self, result: PingResult) -> None:
        """Add the statistics of round-trip times that do not depend on their order."""
        ordered = self.ordered_ms
        set_present(
            result,
            rtt_min_ms=ordered[0],
            rtt_avg_ms=statistics.mean(ordered),
            rtt_median_ms=statistics.median(ordered),
            rtt_max_ms=ordered[-1],
            rtt_stddev_ms=statistics.standard_deviation(ordered),
            rtt_p90_ms=statistics.percentile_90(ordered),
            rtt_p95_ms=statistics.percentile_95(ordered),
            rtt_p99_ms=statistics.percentile_99(ordered),
        )
        result.kernel_timestamps = self.kernel


def _reordered(arrived: Sequence[int], hosts: int) -> int:
    """Return how many replies came after one to a later request to the same host."""
    if hosts == 1:
        return sum(map(operator.lt, arrived, itertools.accumulate(arrived, max)))
    if max(arrived, default=0) < hosts:
        return 0  # one request to each
    latest: dict[int, int] = {}
    overtaken = 0
    for index in arrived:
        host = index % hosts
        if index < latest.get(host, 0):
            overtaken += 1
        else:
            latest[host] = index
    return overtaken


def set_present(message: Any, **values: float | None) -> None:
    """Set the fields that have a value; the others stay unset."""
    for name, value in values.items():
        if value is not None:
            setattr(message, name, value)
