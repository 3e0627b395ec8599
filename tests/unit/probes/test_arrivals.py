"""When what a socket received has come, by stamps of a wall clock that may be set at any time."""

from types import SimpleNamespace

import pytest

from worker.wire import stamps
from worker.wire.stamps import Arrivals

S, MS = 1_000_000_000, 1_000_000


class Clocks:
    """The wall clock and the monotonic one, as this process reads them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.steady_ns = 100 * S
        self.ahead_ns = 1_000_000 * S
        read = SimpleNamespace(perf_counter_ns=lambda: self.steady_ns, time_ns=self.wall_ns)
        patch.setattr(stamps, "time", read)

    def wall_ns(self) -> int:
        return self.steady_ns + self.ahead_ns

    def passes(self, milliseconds: float) -> int:
        """Let time pass; return the instant, in monotonic nanoseconds."""
        self.steady_ns += round(milliseconds * MS)
        return self.steady_ns


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


def test_a_stamp_tells_when_something_came(clocks: Clocks) -> None:
    """However late it is read."""
    arrivals = Arrivals()
    came, stamp = clocks.passes(10), clocks.wall_ns()
    assert arrivals.take(stamp, clocks.passes(60)) == came


def test_without_a_stamp_it_came_when_it_was_read(clocks: Clocks) -> None:
    """As at the end of a stream."""
    arrivals = Arrivals()
    read = clocks.passes(60)
    assert arrivals.take(None, read) == read


@pytest.mark.parametrize(
    "step", [-3600 * S, -30 * MS, 30 * MS, 3600 * S], ids=["-1 h", "-30 ms", "30 ms", "1 h"]
)
def test_a_wall_clock_that_is_set_moves_nothing(clocks: Clocks, step: int) -> None:
    """Of two packets that came before, neither came before the other, nor after it was read."""
    arrivals = Arrivals()
    began = clocks.steady_ns
    clocks.passes(10)
    first, second = clocks.wall_ns(), clocks.wall_ns() + MS
    clocks.passes(10)
    clocks.ahead_ns += step
    read = clocks.passes(10)
    found = [arrivals.take(first, read), arrivals.take(second, clocks.passes(0.1))]
    assert began <= found[0] <= found[1] <= clocks.steady_ns
    # What comes afterwards is stamped by the clock as it is now.
    came, stamp = clocks.passes(5), clocks.wall_ns()
    assert arrivals.take(stamp, clocks.passes(60)) == came


def test_a_clock_that_is_slewed_is_believed(clocks: Clocks) -> None:
    """By one part in two thousand, over a wait of a minute."""
    arrivals = Arrivals()
    clocks.passes(60_000)
    clocks.ahead_ns -= 30 * MS
    came, stamp = clocks.steady_ns, clocks.wall_ns()
    assert arrivals.take(stamp, clocks.passes(60)) == came


def test_nothing_comes_before_it_can(clocks: Clocks) -> None:
    """Not before the connection was there, nor as an answer before it was asked for."""
    there = clocks.passes(1)
    early = clocks.wall_ns() - MS
    greeting, stamp = clocks.passes(5), clocks.wall_ns()
    arrivals = Arrivals(there)
    assert arrivals.take(early, clocks.passes(60)) == there
    assert arrivals.take(stamp, clocks.passes(1)) == greeting
    clocks.passes(1)
    arrivals.begin()
    assert arrivals.take(stamp, clocks.passes(60)) == clocks.steady_ns - 60 * MS
