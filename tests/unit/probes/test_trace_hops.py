"""Probes become hops, and the silence of a hop is loss only as far as those behind it share it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from worker.wire.stamps import Instant
from worker.wire.trace.hops import destination, path, sort
from worker.wire.trace.paths import Memory
from worker.wire.trace.plan import Answer, Probe

TARGET = "198.51.100.1"


def probe(
    ttl: int, source: str | None, *, flow: int = 0, rtt_ms: float = 1.0, at_s: float = 1.0, **values: Any
) -> Probe:
    """Return a probe and its answer; without a source it had none."""
    made = Probe(cast("Any", None), ttl, flow)
    made.sent = Instant(0, round(at_s * 1e9))
    if source is not None:
        made.answer = Answer(
            source=source, final=source == TARGET, type=11, code=0, rtt_ns=round(rtt_ms * 1e6), kernel=True, size=56,
            ttl=60, quoted_ttl=1, quoted_tos=0, quoted_length=60, message=None, unreachable=values.get("unreachable", False),
        )  # fmt: skip
    return made


def test_what_lies_beyond_the_destination_is_left_out() -> None:
    """It answers for larger TTLs too."""
    hops = sort([probe(1, "a"), probe(2, TARGET), probe(3, TARGET)])
    assert [(hop.ttl, hop.addresses, hop.final) for hop in hops] == [(1, ("a",), False), (2, (TARGET,), True)]


def test_silent_hops_behind_the_last_that_answered_are_left_out() -> None:
    """Those before it are not."""
    hops = sort([probe(1, "a"), probe(2, None), probe(3, "c"), probe(4, None), probe(5, None)])
    assert [hop.ttl for hop in hops] == [1, 2, 3]
    assert hops[1].addresses == ()


def test_an_error_that_ends_the_path_ends_it() -> None:
    """The answer counts as that of its hop."""
    hops = sort([probe(1, "a"), probe(2, "a", unreachable=True), probe(3, "a", unreachable=True)])
    assert [hop.ttl for hop in hops] == [1, 2]
    assert destination(hops) is None


def test_an_error_from_nearer_does_not_end_a_path_that_goes_on() -> None:
    """The flow reaches its destination, whatever a router says; only of another flow the error is the end."""
    probes = [probe(1, "a"), probe(2, "a", unreachable=True), probe(3, "c"), probe(4, TARGET)]
    hops = sort(probes)
    assert [hop.ttl for hop in hops] == [1, 2, 3, 4]
    found = destination(hops)
    assert found is not None
    assert found.ttl == 4
    other = [probe(1, "a", flow=1), probe(2, "a", flow=1, unreachable=True), probe(3, "c", flow=1)]
    assert [hop.sent for hop in sort(probes + other)] == [2, 2, 1, 1]


def test_the_first_ttl_that_was_asked_tells_no_distance() -> None:
    """The destination may be nearer; only at the first hop of all it cannot."""
    assert path(sort([probe(6, TARGET), probe(7, TARGET)])).distance is None
    assert path(sort([probe(1, TARGET), probe(2, TARGET)])).distance == 1
    assert path(sort([probe(3, "c"), probe(4, TARGET)])).distance == 4
    assert path(sort([probe(3, None), probe(4, TARGET)])).distance == 4


def test_a_lost_answer_beyond_the_destination_is_no_other_path() -> None:
    """Asked from TTL 6 on, it answers 6 or, when that is lost, 7: neither is how far away it is."""
    memory = Memory()
    memory.changed("a", path(sort([probe(6, TARGET), probe(7, TARGET)])))
    assert memory.changed("a", path(sort([probe(6, None), probe(7, TARGET)]))) is False


def test_loss_is_what_no_hop_behind_disproves() -> None:
    """Hop 2 answers 1 of 4 and hop 3 3 of 4: no more than a quarter was lost on the way to either."""
    probes = []
    for number in range(4):
        probes += [
            probe(1, "a"), probe(2, "b" if number == 0 else None), probe(3, TARGET if number else None),
        ]  # fmt: skip
    hops = sort(probes)
    assert [hop.loss_pct for hop in hops] == [0, 25, 25]


def test_a_hop_that_limits_is_named() -> None:
    """8 of 20, while the destination answers all."""
    probes = []
    for number in range(20):
        probes += [probe(1, "a" if number < 8 else None), probe(2, TARGET)]
    first, last = sort(probes)
    assert (first.rate_limited, first.loss_pct, first.silent) == (True, 0, 12)
    assert not last.rate_limited


def test_a_hop_that_never_answers_is_silent_not_limited() -> None:
    """And nothing is lost there."""
    hops = sort([each for _ in range(20) for each in (probe(1, None), probe(2, TARGET))])
    assert (hops[0].rate_limited, hops[0].loss_pct) == (False, 0)


def test_a_limit_of_the_last_hop_leaves_its_loss_unknown() -> None:
    """Its pattern is that of a bucket: six at once, then one a second."""
    times = [number * 0.1 for number in range(40)]
    hops = sort(
        [
            probe(1, TARGET if number < 6 or number % 10 == 9 else None, at_s=at)
            for number, at in enumerate(times)
        ]
    )
    assert (hops[0].rate_limited, hops[0].loss_pct) == (True, None)


def test_differences_are_taken_within_a_flow() -> None:
    """Two flows with steady times of their own have no jitter."""
    probes = [probe(1, "a", flow=number % 2, rtt_ms=1.0 + number % 2 * 9) for number in range(6)]
    assert sort(probes)[0].ipdv_ms() == pytest.approx(0.0)
    assert sort([probe(1, "a", rtt_ms=1), probe(1, "a", rtt_ms=4)])[0].ipdv_ms() == pytest.approx(3.0)


def test_flows_of_different_length_have_one_destination() -> None:
    """It is the nearest that counts; each flow's probes to it are taken at its own end."""
    probes = [
        probe(1, "a"),
        probe(1, "a", flow=1),
        probe(2, TARGET),
        probe(2, "b", flow=1),
        probe(3, TARGET, flow=1),
    ]
    hops = sort(probes)
    assert [hop.ttl for hop in hops] == [1, 2, 3]
    found = destination(hops)
    assert found is not None
    assert (found.ttl, found.sent, len(found.answers), found.loss_pct) == (2, 2, 2, 0)
    way = path(hops)
    assert way.hops == {1: ("a",), 2: (TARGET,)}
    assert way.distance == 2
