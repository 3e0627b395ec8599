"""What a user asks of a schedule: what goes together, what is never due, and the words about it."""

from __future__ import annotations

import datetime as dt
from typing import Any

import jsonschema
import pytest

from controller.checking import Checker
from controller.planning.asking import FIELDS, SHORTEST_RENEWAL_S, check_end, read_schedule
from controller.planning.schedule_schema import SCHEDULE

NOW = dt.datetime(2026, 11, 25, 12, 0, tzinfo=dt.timezone.utc)
OFFICE = [{"days": ["mon", "tue"], "from": "09:00", "to": "17:00"}]


def read(
    values: dict[str, Any],
    *,
    before: dict[str, Any] | None = None,
    now: dt.datetime | None = NOW,
    **spec: Any,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what was read and what was found wrong, by path."""
    checker = Checker(values, FIELDS)
    found = read_schedule(checker, spec, before=before, now=now)
    return found, {problem.path: problem.message for problem in checker.problems}


def test_what_is_left_out_has_its_default_or_stays() -> None:
    """A new test runs once; a change of one field leaves the others."""
    once, problems = read({})
    assert problems == {}
    assert once == {
        "interval_s": None,
        "cron": "",
        "zone": "UTC",
        "windows": [],
        "starts_at": None,
        "ends_at": None,
        "max_runs": None,
        "recurrence": "continue",
    }
    given = {"cron": " */5  8-18 * * * ", "zone": "Europe/Berlin", "windows": OFFICE, "max_runs": 3}
    made, problems = read(given)
    assert problems == {}
    assert made == {**once, **given, "cron": "*/5 8-18 * * *"}
    changed, problems = read({"max_runs": None}, before={**made, "created_at": NOW})
    assert problems == {}
    assert changed == {**made, "max_runs": None}


@pytest.mark.parametrize(
    ("values", "path", "message"),
    [
        ({"cron": "61 * * * *"}, "cron", "bad minute"),
        ({"cron": "* * * * * *"}, "cron", "five fields"),
        ({"cron": 5}, "cron", "must be text"),
        ({"cron": "0 9 * * *", "interval_s": 60}, "cron", "instead of an interval"),
        ({"cron": "0 9 * * *", "zone": "Mars/Base"}, "zone", "no time zone"),
        ({"interval_s": 0.5}, "interval_s", "between 1 and"),
        ({"interval_s": 60, "windows": [{"from": "09:00", "to": "09:00"}]}, "windows[0].to", "no length"),
        ({"cron": "0 3 * * *", "windows": OFFICE}, "windows", "no run of this schedule"),
        ({"windows": OFFICE}, "windows", "runs once"),
        ({"max_runs": 2}, "max_runs", "runs once"),
        ({"interval_s": 60, "max_runs": 0}, "max_runs", "between 1 and"),
        ({"interval_s": 60, "max_runs": 1.5}, "max_runs", "whole number"),
        ({"cron": "0 0 29 2 *", "max_runs": 50}, "max_runs", "twenty years"),
        ({"interval_s": 60, "max_runs": 5, "starts_at": "2026-11-25T11:00:00Z"}, "max_runs", "run 5 was due at 2026-11-25T11:04:00Z"),
        ({"recurrence": "new_test"}, "recurrence", "runs once"),
        ({"interval_s": SHORTEST_RENEWAL_S - 1, "recurrence": "new_test"}, "recurrence", "15 minutes"),
        ({"cron": "*/10 * * * *", "recurrence": "new_test"}, "recurrence", "15 minutes"),
        ({"interval_s": 3600, "recurrence": "often"}, "recurrence", "one of continue, new_test"),
        ({"interval_s": 60, "starts_at": "2027-01-02T00:00:00Z", "ends_at": "2027-01-01T00:00:00Z"}, "ends_at", "after starts_at"),
    ],
)  # fmt: skip
def test_each_fault_has_its_path_and_its_reason(values: dict[str, Any], path: str, message: str) -> None:
    """One fault, one problem, and nothing raised."""
    _, problems = read(values)
    assert list(problems) == [path]
    assert message in problems[path]


def test_runs_that_last_longer_than_cron_leaves_are_refused() -> None:
    """A minute is the least that cron leaves between two runs."""
    slow = {"count": 100, "interval_ms": 1000}
    _, problems = read({"cron": "* * * * *"}, **slow)
    assert "takes at least 99 s" in problems["cron"]
    assert read({"cron": "*/2 * * * *"}, **slow)[1] == {}


def test_what_is_over_may_still_be_renamed_and_stand_in_a_file() -> None:
    """Only a change of the schedule is measured against now."""
    over = {"interval_s": 60.0, "max_runs": 5, "starts_at": NOW - dt.timedelta(days=1)}
    stored, problems = read(over, now=None)
    assert problems == {}
    assert read({}, before={**stored, "created_at": NOW})[1] == {}
    assert read({"max_runs": 5}, before={**stored, "created_at": NOW})[1] == {}
    assert "max_runs" in read({"max_runs": 6}, before={**stored, "created_at": NOW})[1]


@pytest.mark.parametrize(
    ("age_s", "before_age_s", "is_fault"),
    [
        (61, None, True),
        (86_400, 86_401, True),
        (86_400, 86_400, False),
        (59, None, False),
        (-1, None, False),
        (None, 86_400, False),
    ],
)
def test_an_end_that_has_passed_is_a_fault_unless_it_was_there(
    age_s: float | None, before_age_s: float | None, is_fault: bool
) -> None:
    """Whoever edits something else sends the old one along; one of a moment ago is meant to be now."""
    end, before = (None if age is None else NOW - dt.timedelta(seconds=age) for age in (age_s, before_age_s))
    checker = Checker({}, FIELDS)
    check_end(checker, {"ends_at": end}, before=before, now=NOW)
    assert [problem.path for problem in checker.problems] == ["ends_at"] * is_fault


@pytest.mark.parametrize(
    ("values", "good"),
    [
        (
            {"cron": "0 9 * * *", "zone": "UTC", "windows": OFFICE, "max_runs": 1, "recurrence": "new_test"},
            True,
        ),
        ({"interval_s": 1, "windows": [{"days": "mon", "from": 540, "to": "24:00"}]}, True),
        ({"windows": [{"days": ["someday"], "from": "09:00", "to": "10:00"}]}, False),
        ({"windows": [{"from": "9", "to": "10:00"}]}, False),
        ({"windows": [{"from": "09:00"}]}, False),
        ({"max_runs": 0}, False),
        ({"recurrence": "often"}, False),
    ],
)
def test_the_schema_knows_what_the_reader_takes(values: dict[str, Any], good: bool) -> None:
    """Editors and the API say the same as the commands."""
    schema = {"type": "object", "properties": SCHEDULE, "additionalProperties": False}
    assert jsonschema.Draft202012Validator(schema).is_valid(values) is good


@pytest.mark.parametrize("name", ["from", "to"])
def test_the_schema_knows_the_times_that_clocks_show(name: str) -> None:
    """Of a day and no others: 24:00 ends one, and neither begins it nor goes on to 24:30; as text and as minutes."""
    schema = {"type": "object", "properties": SCHEDULE}
    validator = jsonschema.Draft202012Validator(schema)
    texts: list[Any] = [
        f"{hour}:{minute:02}" for hour in ("0", "00", "9", *range(10, 31)) for minute in (0, 1, 30, 59, 60)
    ]
    minutes: list[Any] = [-1, 0, 1439, 1440, 1441, 1470]
    for value in (*texts, *minutes, "24:00 ", "١٢:00", "09:00\n9"):
        values = {"interval_s": 60, "windows": [{"from": "08:05", "to": "08:05", name: value}]}
        _, problems = read(values)
        path = f"windows[0].{name}"
        takes = path not in problems or "no length" in problems[path]
        stripped = isinstance(value, str) and value != value.strip()
        assert validator.is_valid(values) is (takes and not stripped), value
        if value in ("24:30", 1470):
            assert (
                problems[path] == f"`{value}` is no time of day; write it as in `09:00`, from 00:00 to 24:00"
            )
