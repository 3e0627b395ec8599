"""Schedules in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from controller.planning.schedule_words import schedule_words


@dataclass
class _Scheduled:
    interval_s: float | None = None
    cron: str = ""
    zone: str = "Europe/Berlin"
    windows: Sequence[Mapping[str, Any]] = ()
    max_runs: int | None = None


@pytest.mark.parametrize(
    ("test", "words"),
    [
        (_Scheduled(), "once"),
        (_Scheduled(interval_s=10), "every 10 s"),
        (_Scheduled(cron="30 8 * * 1-5", max_runs=5), "by cron 30 8 * * 1-5 (Europe/Berlin); 5 runs"),
        (
            _Scheduled(interval_s=60, windows=[{"days": ["mon", "sun"], "from": "22:00", "to": "06:00"}, {"from": 0, "to": 60}]),
            "every 1 min; every day 00:00-01:00; mon, sun 22:00-06:00 (Europe/Berlin)",
        ),
    ],
)  # fmt: skip
def test_a_schedule_is_said(test: _Scheduled, words: str) -> None:
    """Interval, cron, windows with their zone, and the number of runs."""
    assert schedule_words(test).replace("\u00a0", " ").replace("\u202f", " ") == words
