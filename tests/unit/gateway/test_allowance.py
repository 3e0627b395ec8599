"""What a session may say: no honest worker meets the limit, and a hostile one is slowed down to it."""

from __future__ import annotations

from controller.gateway.limits import MESSAGES_AT_ONCE, MESSAGES_PER_S, Allowance


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_small_batches_as_fast_as_a_worker_sends_them_are_never_held_back() -> None:
    """Twenty batches of one result a second, a heartbeat each second beside them, for an hour."""
    clock = Clock()
    allowance = Allowance(now=clock)
    for number in range(72_000):
        clock.now = number / 20
        assert allowance.take(results=1, size=100) == 0
        if number % 20 == 0:
            assert allowance.take() == 0
    assert allowance.short_s == 0


def test_a_spool_that_is_emptied_is_never_held_back() -> None:
    """What is left of the credit makes every third batch small; all come in no time at all."""
    allowance = Allowance(now=Clock())
    for _ in range(10_000):
        assert [allowance.take(results=count, size=count * 200) for count in (500, 497, 3)] == [0, 0, 0]


def test_large_results_pay_by_their_bytes() -> None:
    """Seven results with long details fill a batch."""
    allowance = Allowance(now=Clock())
    assert {allowance.take(results=7, size=7 * 65_000) for _ in range(10_000)} == {0}


def test_an_endless_loop_is_slowed_down_and_seen() -> None:
    """Heartbeats without a pause come at the rate of the limit, and for how long is known; a rest makes up for it."""
    clock = Clock()
    allowance = Allowance(now=clock)
    count = 0
    while clock.now < 100:
        clock.now += allowance.take()
        count += 1
    assert abs(count - MESSAGES_AT_ONCE - 100 * MESSAGES_PER_S) < 5
    assert 90 < allowance.short_s <= 100
    clock.now += MESSAGES_AT_ONCE / MESSAGES_PER_S
    assert allowance.take() == 0
    assert allowance.short_s == 0
