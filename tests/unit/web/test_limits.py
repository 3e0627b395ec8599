"""Rate limits by a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask, g

from web.errors import TooManyRequestsError
from web.limits import CALLS, LOGINS, WINDOW_S, Limit, Limits


class Clock:
    """Seconds that go by when they are told to."""

    now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock."""
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> Iterator[Limits]:
    """Limits, within a request."""
    with Flask(__name__).app_context():
        yield Limits(clock)


def test_so_many_calls_go_through_in_any_minute(limits: Limits, clock: Clock) -> None:
    """The next is told how long to wait, and after that wait one goes through, and only one."""
    for _ in range(20):
        limits.hit(Limit(20), "calls", "a")
        clock.now += 1
    with pytest.raises(TooManyRequestsError) as refused:
        limits.hit(Limit(20), "calls", "a")
    assert refused.value.retry_after_s == WINDOW_S - 20
    clock.now += refused.value.retry_after_s
    limits.hit(Limit(20), "calls", "a")
    with pytest.raises(TooManyRequestsError) as refused:
        limits.hit(Limit(20), "calls", "a")
    assert refused.value.retry_after_s == 1


def test_who_is_refused_is_not_counted(limits: Limits, clock: Clock) -> None:
    """Whoever asks on and on is let through again when a minute is over, not later."""
    for _ in range(LOGINS.amount):
        limits.hit(LOGINS, "login", "a")
    for _ in range(WINDOW_S):
        with pytest.raises(TooManyRequestsError):
            limits.hit(LOGINS, "login", "a")
        clock.now += 1
    limits.hit(LOGINS, "login", "a")
    assert g.rate_limit["RateLimit"] == f'"login";r={LOGINS.amount - 1};t={WINDOW_S}'


def test_each_is_counted_apart(limits: Limits) -> None:
    """By what is counted and by who calls."""
    for _ in range(CALLS.amount):
        limits.hit(CALLS, "calls", "a")
    limits.hit(CALLS, "calls", "b")
    limits.hit(CALLS, "stranger", "a")
    assert g.rate_limit["RateLimit"] == f'"stranger";r={CALLS.amount - 1};t={WINDOW_S}'
    with pytest.raises(TooManyRequestsError):
        limits.hit(CALLS, "calls", "a")


def test_who_has_gone_is_forgotten(limits: Limits, clock: Clock) -> None:
    """A thousand addresses that called once are not kept for ever; who calls on stays counted."""
    for number in range(1000):
        limits.hit(LOGINS, "login", str(number))
    for _ in range(10):
        limits.hit(LOGINS, "login", "stays")
        clock.now += 13
    assert len(limits._calls) == 1
    assert g.rate_limit["RateLimit"] == f'"login";r={LOGINS.amount - 5};t=8'
