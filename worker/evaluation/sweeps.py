"""What a ping of a whole network says: metrics over all replies, and which addresses answered."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from streamswarm.v1.probes.ping_pb2 import PingAddress, PingResult
from worker.evaluation import statistics
from worker.evaluation.replies import Replies
from worker.probing import IPAddress

#: Networks of up to so many addresses have a row for each one that answers.
MOST_ROWS = 1024
#: Ranges of addresses that are told in the detail.
MOST_RANGES = 50


def summarise(replies: Replies, first: IPAddress, hosts: int, count: int) -> PingResult:
    """Return the metrics of a run of `count` requests to each of `hosts` addresses from `first` on.

    Variation between the times of different hosts is no jitter, and losses of different hosts form no period: those
    stay unset.
    """
    result = replies.counted()
    result.addresses = hosts
    answering = len(_answering(replies, hosts))
    if answering == hosts or _all_known(replies):
        result.addresses_answering = answering
    if replies.in_time:
        replies.add_times(result)
    if hosts <= MOST_ROWS:
        result.by_address.extend(_rows(replies, first, hosts, count))
    return result


def answering(replies: Replies, first: IPAddress, hosts: int) -> dict[str, Any]:
    """Return the part of a detail that tells which addresses answered, or which did not if that is shorter.

    Who is silent is known only when every address was asked and no reply was dropped here.
    """
    answered = _answering(replies, hosts)
    if not _all_known(replies):
        return {"answering": _told(_ranges(sorted(answered)), first)}
    found, missing = _ranges(sorted(answered)), _ranges(sorted(set(range(hosts)) - answered))
    if len(found) <= len(missing) or not missing:
        return {"answering": _told(found, first)}
    return {"silent": _told(missing, first)}


def _all_known(replies: Replies) -> bool:
    """Whether every request was sent, and no reply found no room on this host."""
    return not replies.record.refused and not replies.record.dropped_here


def _answering(replies: Replies, hosts: int) -> set[int]:
    requests = replies.in_time.keys()
    return set(requests) if max(requests, default=0) < hosts else {request % hosts for request in requests}


def _rows(replies: Replies, first: IPAddress, hosts: int, count: int) -> Iterable[PingAddress]:
    """Return a row for each answering address; without loss where it cannot be told."""
    times: dict[int, list[float]] = {}
    for index, rtt_ns in replies.in_time.items():
        times.setdefault(index % hosts, []).append(rtt_ns / 1e6)
    known = _all_known(replies)
    for host, rtts in sorted(times.items()):
        row = PingAddress(address=str(first + host), rtt_avg_ms=statistics.mean(rtts))
        if known or len(rtts) == count:
            row.loss_pct = 100.0 * (count - len(rtts)) / count
        yield row


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    """Return the first and last of each row of consecutive numbers."""
    if not numbers:
        return []
    ends = [at for at, (low, high) in enumerate(itertools.pairwise(numbers)) if high != low + 1]
    starts = [0, *(at + 1 for at in ends)]
    return [(numbers[start], numbers[end]) for start, end in zip(starts, [*ends, -1], strict=True)]


def _told(ranges: list[tuple[int, int]], first: IPAddress) -> str:
    told = [
        str(first + start) if start == end else f"{first + start}-{first + end}"
        for start, end in ranges[:MOST_RANGES]
    ]
    if len(ranges) > MOST_RANGES:
        told.append(f"and {len(ranges) - MOST_RANGES} further ranges")
    return ", ".join(told) or "none"
