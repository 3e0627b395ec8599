"""The controller's time: wall clock at first, then what sessions tell, carried on by the steady clock."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
