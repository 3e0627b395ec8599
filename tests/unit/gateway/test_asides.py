"""What is set aside is told: once of each worker and reason in a while, with the count, and never in floods."""

from __future__ import annotations

import logging
import uuid

import pytest

from controller.gateway.asides import Asides, kind_of

ONE, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged, and forget it."""
    found = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    caplog.clear()
    return found


def test_of_each_worker_and_reason_one_line_in_ten_minutes(caplog: pytest.LogCaptureFixture) -> None:
    """Numbers make no reasons of their own; what comes in between is in the next line's count."""
    clock = [0.0]
    asides = Asides(now=lambda: clock[0])
    asides.tell(
        {(ONE, "there is no job 7"): 2, (ONE, "there is no job 8"): 1, (OTHER, "there is no job 7"): 1}
    )
    first, second = lines(caplog)
    assert first.startswith(
        f"worker {ONE} brings results that cannot be stored: there is no job … (3 set aside "
    )
    assert f"GET /api/v1/workers/{ONE}/quarantine" in first
    assert second.startswith(f"worker {OTHER} brings results that cannot be stored: there is no job … (1 ")
    clock[0] = 590
    asides.tell({(ONE, "there is no job 9"): 5, (ONE, "it is no Result message"): 1})
    [other_reason] = lines(caplog)
    assert ": it is no Result message (1 set" in other_reason
    clock[0] = 601
    asides.tell({(ONE, "there is no job 9"): 1})
    [again] = lines(caplog)
    assert f"worker {ONE} " in again
    assert "(6 set aside" in again


def test_a_worker_that_has_ever_new_reasons_is_told_of_ten_times(caplog: pytest.LogCaptureFixture) -> None:
    """And once a minute after that; another is told of all the same."""
    clock = [0.0]
    asides = Asides(now=lambda: clock[0])
    for number in range(30):
        asides.tell({(ONE, f"reason {'x' * number}"): 1})
    assert len(lines(caplog)) == 10
    asides.tell({(OTHER, "reason"): 1})
    assert len(lines(caplog)) == 1
    clock[0] = 61
    asides.tell({(ONE, "reason y"): 1, (ONE, "reason z"): 1})
    assert len(lines(caplog)) == 1


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("job 12 belongs to another worker", "job … belongs to another worker"),
        ("duration_ms is -1.5e+300, which is no measurement", "duration_ms is …, which is no measurement"),
        ("rtt_p95_ms is nan, which is no measurement", "rtt_p95_ms is …, which is no measurement"),
        ("the database refuses it: invalid input 'abc'", "the database refuses it"),
    ],
)
def test_a_reason_is_told_without_what_a_worker_chooses(fault: str, kind: str) -> None:
    """Neither numbers nor what follows a colon; the names of fields stay."""
    assert kind_of(fault) == kind
