"""The controller's time: wall clock at first, then what sessions tell, carried on by the steady clock."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.scheduling import FakeClock

from worker.clock import ControllerTime, SystemClock


def test_before_the_first_contact_the_wall_clock_is_followed_forward_only(clock: Any, start_us: int) -> None:
    """NTP may set a clock that started in the past; a step back must not repeat time."""
    time = ControllerTime(clock)
    assert time.now_us() == start_us
    assert time.offset_ms() is None
    clock.set_wall(3600)
    assert time.now_us() == start_us + 3_600_000_000
    clock.set_wall(-7200)
    assert time.now_us() == start_us + 3_600_000_000


def test_the_controllers_time_does_not_care_about_the_wall_clock(clock: Any, start_us: int) -> None:
    """After the first contact a wall clock that is set changes nothing but the reported offset."""
    time = ControllerTime(clock)
    time.observe(
        sent_steady_us=clock.steady_us(), received_steady_us=clock.steady_us(), controller_us=start_us
    )
    clock.set_wall(-3600)
    assert time.now_us() == start_us
    assert time.offset_ms() == pytest.approx(-3_600_000)
    clock.suspend(10)
    assert time.now_us() == start_us + 10_000_000


def test_the_quickest_answer_is_believed(clock: Any, start_us: int) -> None:
    """An answer that was under way for long does not spoil what a quick one told."""
    time = ControllerTime(clock)
    now = clock.steady_us()
    time.observe(sent_steady_us=now - 2_000, received_steady_us=now, controller_us=start_us)
    time.observe(sent_steady_us=now - 4_000_000, received_steady_us=now, controller_us=start_us)
    assert time.now_us() == start_us + 1_000


@pytest.mark.parametrize("wait_s", [0.2, 6, 14, 44])
def test_a_late_welcome_does_not_spoil_what_is_known(clock: Any, start_us: int, wait_s: float) -> None:
    """Neither what the last session told, nor a wall clock that may well be right, nor what a restart has kept."""
    told = _told_at(ControllerTime(clock, boot_id="b"), clock, start_us)
    kept = ControllerTime(clock, boot_id="b", kept=told.keep())
    assumed = ControllerTime(clock)
    clock.suspend(wait_s)
    now = clock.steady_us()
    for time in (told, kept, assumed):
        time.new_session()
        time.observe(
            sent_steady_us=now - round(wait_s * 1e6), received_steady_us=now, controller_us=clock.wall_us()
        )
    assert told.now_us() == clock.wall_us()
    assert told.quickly_told
    for time in (kept, assumed):
        assert abs(time.now_us() - clock.wall_us()) <= 100_000 * (wait_s < 1)
        assert time.quickly_told is (wait_s < 1)


def test_an_answer_that_shows_another_time_is_believed(clock: Any, start_us: int) -> None:
    """However slow it is, when what was known cannot be true any more; a quick one then puts it right."""
    time = _told_at(ControllerTime(clock), clock, start_us)
    time.new_session()
    now = clock.steady_us()
    time.observe(
        sent_steady_us=now - 14_000_000, received_steady_us=now, controller_us=start_us - 3_600_000_000
    )
    assert abs(time.now_us() - start_us + 3_600_000_000) <= 7_000_000
    assert not time.quickly_told
    _told_at(time, clock, start_us - 3_600_000_000)
    assert time.now_us() == start_us - 3_600_000_000
    assert time.quickly_told


def test_what_an_earlier_session_told_is_not_kept_for_good(clock: Any, start_us: int) -> None:
    """Clocks drift: a handful of answers of a slow line count for more than one of long ago."""
    time = _told_at(ControllerTime(clock), clock, start_us)
    time.new_session()
    now = clock.steady_us()
    for _ in range(8):
        time.observe(sent_steady_us=now - 600_000, received_steady_us=now, controller_us=start_us - 100_000)
    assert time.now_us() == start_us + 200_000


def _told_at(time: ControllerTime, clock: Any, controller_us: int) -> ControllerTime:
    """Let the controller answer in no time."""
    now = clock.steady_us()
    time.observe(sent_steady_us=now, received_steady_us=now, controller_us=controller_us)
    return time


@given(
    answers=st.lists(
        st.tuples(st.integers(0, 45_000_000), st.floats(0, 1), st.booleans()), min_size=1, max_size=7
    ),
    wall_s=st.sampled_from([-86_400, -3.0, 0.0, 0.4, 86_400]),
)
def test_time_is_as_good_as_the_quickest_answer(
    answers: list[tuple[int, float, bool]], wall_s: float
) -> None:
    """Wherever on their way the stamps are made, and in however many sessions the answers come."""
    clock = FakeClock()
    clock.set_wall(wall_s)
    time = ControllerTime(clock)
    clock.set_wall(-wall_s)  # now the wall clock is the truth, and the worker does not know
    for round_trip_us, stamped_at, another_session in answers:
        if another_session:
            time.new_session()
        sent_us, base_us = clock.steady_us(), clock.wall_us() - clock.steady_us()
        clock.suspend(round_trip_us / 1e6)
        stamp_us = base_us + sent_us + round(round_trip_us * stamped_at)
        time.observe(sent_steady_us=sent_us, received_steady_us=clock.steady_us(), controller_us=stamp_us)
    quickest_us = min(round_trip_us for round_trip_us, _, _ in answers)
    error_us = abs(time.now_us() - clock.wall_us())
    assert error_us <= quickest_us / 2 + (1 if quickest_us < 1_000_000 else 500_001)


@given(there_us=st.integers(0, 10**7), back_us=st.integers(0, 10**7), skew_us=st.integers(-(10**10), 10**10))
def test_the_error_is_at_most_half_the_round_trip(there_us: int, back_us: int, skew_us: int) -> None:
    """However unequal the two ways are."""
    clock = SystemClock()
    received = clock.steady_us()
    sent = received - there_us - back_us
    truth_at_receipt = 10**15 + skew_us
    time = ControllerTime(_Frozen(received))
    time.observe(sent_steady_us=sent, received_steady_us=received, controller_us=truth_at_receipt - back_us)
    assert abs(time.now_us() - truth_at_receipt) <= (there_us + back_us) / 2 + 1


class _Frozen(SystemClock):
    def __init__(self, steady_us: int) -> None:
        super().__init__()
        self._at = steady_us

    def steady_us(self) -> int:
        return self._at


def test_a_restart_within_one_boot_keeps_the_controllers_time(clock: Any, start_us: int) -> None:
    """Even with a wall clock that is wrong by then."""
    before = ControllerTime(clock, boot_id="boot-1")
    before.observe(
        sent_steady_us=clock.steady_us(), received_steady_us=clock.steady_us(), controller_us=start_us
    )
    kept = before.keep()
    clock.suspend(5)
    clock.set_wall(-86_400)
    after = ControllerTime(clock, boot_id="boot-1", kept=kept)
    assert after.synchronised
    assert after.now_us() == start_us + 5_000_000


def test_after_a_reboot_time_does_not_fall_behind_what_was_seen(clock: Any, start_us: int) -> None:
    """A host without a battery clock may start in the past."""
    before = ControllerTime(clock, boot_id="boot-1")
    before.observe(
        sent_steady_us=clock.steady_us(), received_steady_us=clock.steady_us(), controller_us=start_us
    )
    kept = before.keep()
    clock.set_wall(-86_400)
    after = ControllerTime(clock, boot_id="boot-2", kept=kept)
    assert not after.synchronised
    assert after.now_us() == start_us


@pytest.mark.parametrize(
    "kept", ["", "nonsense", "[]", '{"boot_id": 1}', '{"boot_id": "b", "base_us": "x", "seen_us": 1}']
)
def test_a_damaged_note_of_the_time_is_left_aside(clock: Any, start_us: int, kept: str) -> None:
    """It only improves the first seconds."""
    assert ControllerTime(clock, boot_id="b", kept=kept).now_us() == start_us


def test_the_steady_clock_of_this_host_does_not_go_back() -> None:
    """The real clocks work."""
    clock = SystemClock()
    readings = [clock.steady_us() for _ in range(100)]
    assert readings == sorted(readings)
    assert clock.wall_us() > 1_700_000_000_000_000
