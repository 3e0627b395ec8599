"""CSV: what a spreadsheet must not take for a formula, numbers to their last digit, RFC 4180."""

from __future__ import annotations

import csv
import datetime as dt
import io
import uuid
from typing import Any

import pytest
from hypothesis import given, strategies

from controller.reports.sheet import header, header_of_rows, neutral, text_of, text_of_rows
from controller.store import results
from controller.store.queries.schedules import ScheduledJob
from streamswarm import contract

NOW = dt.datetime(2026, 5, 12, 8, 0, 0, 1500, dt.timezone(dt.timedelta(hours=2)))


def job(**more: Any) -> ScheduledJob:
    """A job."""
    values = {
        "id": 7, "worker_id": uuid.UUID(int=1), "worker_name": "w", "destination_id": 1, "destination_name": "d",
        "target": "192.0.2.1", "interval_us": 1, "anchor_us": 0, "one_shot": False, "created_at": NOW,
        "retired_at": None,
    }  # fmt: skip
    return ScheduledJob(**(values | more))


def run(kind: str, **more: Any) -> dict[str, Any]:
    """A row of a kind's table in which nothing was measured."""
    row: dict[str, Any] = dict.fromkeys(column.name for column in results.columns(kind))
    row |= {"job_id": 7, "scheduled_at": NOW, "started_at": NOW, "duration_ms": 0.1, "job_version": 2}
    return row | {"status": 1, "failure_source": 0, "failure_reason": None} | more


def read(text: str) -> list[list[str]]:
    """Read CSV as another program does."""
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_text_that_begins_like_a_formula_is_neutralised(first: str) -> None:
    """In every column of text, and nowhere else."""
    evil = f'{first}cmd|"/c calc"!A1'
    kind = contract.kind("ping")
    hostile = job(worker_name=evil, destination_name=evil, target=evil)
    text = "".join(text_of(kind, evil, [(hostile, run("ping", error=evil, rtt_avg_ms=-1.5))]))
    names, row = read(text)
    cells = dict(zip(names, row, strict=True))
    for name in ("test", "worker", "destination", "target", "error"):
        assert cells[name] == f"'{evil}", name
    assert cells["rtt_avg_ms [ms]"] == "-1.5"
    assert not any(cell.startswith(first) for name, cell in cells.items() if "[" not in name)


@given(strategies.text())
def test_neutral_text_begins_no_formula_and_loses_nothing(text: str) -> None:
    """Whatever the text, it is there in full, and never begins like a formula."""
    found = neutral(text)
    assert found in (text, f"'{text}")
    assert not found.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


@pytest.mark.parametrize("kind", contract.kinds())
def test_every_metric_has_a_column_with_its_unit(kind: str) -> None:
    """Header and rows have the same width; what was not measured is empty, instants are UTC."""
    known = contract.kind(kind)
    names, row = read("".join(text_of(known, "T", [(job(), run(kind))])))
    assert names == header(known)
    assert len(row) == len(names) == 14 + len(known.metrics)
    for metric in known.metrics:
        wanted = metric.name if metric.unit in ("", "1") else f"{metric.name} [{metric.unit}]"
        assert wanted in names
    assert set(row[13:]) == {""}
    assert row[6] == "2026-05-12T06:00:00.001500Z"


def test_lines_end_and_quotes_double_as_the_standard_says() -> None:
    """CRLF ends each record; a cell with a comma, a quote or a line break is quoted."""
    kind = contract.kind("ping")
    error = 'said "no", then\nleft'
    text = "".join(text_of(kind, "a,b", [(job(), run("ping", error=error))]))
    assert text.endswith("\r\n")
    assert text.count("\r\n") == 2
    assert '"a,b",' in text
    assert '"said ""no"", then\nleft"' in text


def test_many_rows_come_in_pieces() -> None:
    """The text is handed on long before all of it is there."""
    kind = contract.kind("ping")
    pieces = list(text_of(kind, "T", ((job(), run("ping")) for _ in range(20_000))))
    assert len(pieces) > 20
    assert max(len(piece) for piece in pieces) < 100_000
    assert "".join(pieces).count("\r\n") == 20_001


@pytest.mark.parametrize(
    ("kind", "child"),
    [(kind.name, child.name) for kind in contract.kinds().values() for child in kind.children],
)
def test_every_repeated_group_has_a_sheet(kind: str, child: str) -> None:
    """Its key under its own name, every metric with its unit, each column once; keys are no formulas."""
    known = contract.kind(kind)
    group = next(each for each in known.children if each.name == child)
    found: dict[str, Any] = dict.fromkeys(column.name for column in results.child_columns(kind, child))
    found |= {"job_id": 7, "scheduled_at": NOW, "key": "=1+1", "run_status": 2}
    names, row = read("".join(text_of_rows(known, group, "T", [(job(), found)])))
    assert names == header_of_rows(group)
    assert len(set(names)) == len(names) == 8 + len(group.metrics)
    assert dict(zip(names, row, strict=True))[group.key] == "'=1+1"
    assert row[5:7] == ["2026-05-12T06:00:00.001500Z", "failed"]
    assert set(row[8:]) == {""}
