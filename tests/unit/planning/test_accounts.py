"""Where every run is: versions of a job, seams between them, and what arrived."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from controller.planning.accounts import Account, Received, Version, account, may_stray, spans
from streamswarm.schedules import Schedule

MINUTE = 60_000_000
EVERY_MINUTE = Schedule(anchor_us=0, interval_us=MINUTE)
EVERY_TEN = Schedule(anchor_us=0, interval_us=10 * MINUTE)


def version(
    number: int, start: int, end: int | None, schedule: Schedule = EVERY_MINUTE, *, paused: bool = False
) -> Version:
    """Return a version that holds from one minute to another."""
    return Version(
        number=number,
        valid_from_us=start * MINUTE,
        valid_until_us=None if end is None else end * MINUTE,
        schedule=schedule,
        paused=paused,
    )


def runs(number: int, count: int, first: int, last: int, status: str = "ok") -> Received:
    """Return runs of a version, due from one minute to another."""
    return Received(
        version=number, status=status, count=count, first_us=first * MINUTE, last_us=last * MINUTE
    )


def account_of(
    versions: list[Version], received: list[Received], *, start: int = 0, end: int = 120
) -> Account:
    """Return the account over a range of minutes, nothing astray."""
    known = spans(versions, received, start_us=start * MINUTE, end_us=end * MINUTE)
    return account(known, received)


def test_the_sum_over_versions() -> None:
    """Every minute, a pause, retired for a while, then every ten minutes."""
    versions = [
        version(1, 0, 30),
        version(2, 30, 60, paused=True),
        version(3, 60, 70),
        version(4, 90, None, EVERY_TEN),
    ]
    assert account_of(versions, []).expected == 30 + 0 + 10 + 3
    assert account_of(versions, [], start=20, end=65).expected == 10 + 5
    assert account_of(versions, [], start=200, end=300).expected == 10


def test_a_worker_that_has_not_heard_yet_is_judged_by_what_it_knew() -> None:
    """Cut off at the change it went on for twenty minutes: those runs were due, and the pause counts from then on."""
    versions = [version(1, 0, 30), version(2, 30, None, paused=True)]
    late = [runs(1, 50, 0, 49)]
    found = account_of(versions, late)
    assert (found.expected, found.received, found.undelivered, found.beyond) == (50, 50, 0, 0)
    assert not may_stray(spans(versions, late, start_us=0, end_us=120 * MINUTE), late)


def test_a_change_that_came_late_replaces_what_lay_between() -> None:
    """The new schedule counts from behind the last run of the old one; a version that never arrived counts nothing."""
    versions = [version(1, 0, 30, EVERY_TEN), version(2, 30, 40), version(3, 40, None)]
    received = [runs(1, 6, 0, 50), runs(3, 60, 60, 119)]
    found = account_of(versions, received)
    # 0 to 50 by tens, then every minute from 51 on, of which nine fell to nobody.
    assert (found.expected, found.received, found.undelivered) == (6 + 69, 66, 9)


def test_missed_is_told_and_undelivered_is_what_lacks() -> None:
    """What the worker says about a run is a result too."""
    found = account_of([version(1, 0, None)], [runs(1, 100, 0, 99), runs(1, 5, 100, 104, "missed")])
    assert (found.expected, found.ok, found.missed, found.undelivered) == (120, 100, 5, 15)
    assert found.coverage == 100 / 120


def test_what_was_due_once() -> None:
    """Retired with its result it stays due; withdrawn before its instant it was not."""
    once = Schedule(anchor_us=50 * MINUTE)
    assert account_of([version(1, 0, None, once)], []).expected == 1
    assert account_of([version(1, 0, 40, once)], []).expected == 0
    assert account_of([version(1, 0, None, once)], [], start=51).expected == 0


def test_results_out_of_place_are_noticed() -> None:
    """Of a paused version, of one that nobody knows, or before it began."""
    versions = [version(1, 10, 30), version(2, 30, None, paused=True)]
    for stray in (runs(2, 1, 40, 40), runs(9, 1, 20, 20), runs(1, 1, 5, 5)):
        known = spans(versions, [stray], start_us=0, end_us=120 * MINUTE)
        assert may_stray(known, [stray])


@given(
    cuts=st.lists(st.integers(1, 119), max_size=6, unique=True).map(sorted),
    lasts=st.lists(st.integers(0, 119), min_size=7, max_size=7),
)
def test_spans_never_overlap_and_never_count_an_instant_twice(cuts: list[int], lasts: list[int]) -> None:
    """Whatever came late: with one schedule throughout, every minute of the range is due exactly once."""
    edges = [0, *cuts]
    versions = [
        version(number + 1, start, (*edges[1:], None)[number])  # type: ignore[arg-type]
        for number, start in enumerate(edges)
    ]
    received = [runs(number + 1, 1, lasts[number], lasts[number]) for number in range(len(edges))]
    known = spans(versions, received, start_us=0, end_us=120 * MINUTE)
    for earlier, later in pairwise(known):
        assert earlier.end_us <= later.start_us
    assert sum(span.due for span in known) == 120


def test_what_was_due_while_the_worker_was_drained_is_not_expected() -> None:
    """It lacks nowhere else; a run that came all the same, as the worker was back a moment earlier, counts as ever."""
    known = spans([version(1, 0, None)], [], start_us=0, end_us=120 * MINUTE)
    drains = [(20 * MINUTE, 50 * MINUTE), (100 * MINUTE, 120 * MINUTE)]
    received = [runs(1, 20, 0, 19), runs(1, 52, 48, 99)]
    found = account(known, received, drains=drains)
    assert (found.expected, found.drained, found.undelivered) == (120 - 48, 48, 0)
    assert found.expected - found.undelivered + found.beyond == found.received
    lacking = account(known, [runs(1, 20, 0, 19)], drains=drains)
    assert (lacking.expected, lacking.drained, lacking.undelivered) == (70, 50, 50)
    paused = spans([version(1, 0, None, paused=True)], [], start_us=0, end_us=120 * MINUTE)
    assert account(paused, [], drains=drains) == Account()
