"""Packed rows come out of PostgreSQL as the values that went in, for every kind and every pattern of NULLs."""

from __future__ import annotations

import datetime as dt
import json
import random
from typing import Any

import psycopg
import pytest

from controller.gateway.packing import HEADER, TRAILER, copy_target, pack
from controller.store import results
from streamswarm import contract
from streamswarm.v1 import probe_pb2

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_TODAY_US = int(dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0).timestamp()) * 1_000_000


def _value(metric: Any, chance: random.Random) -> Any:
    if metric.type == "boolean":
        return chance.random() < 0.5
    if metric.type == "integer":
        limit = 2 ** (metric.bits - 1)
        return chance.choice([0, 1, -1, limit - 1, -limit, chance.randrange(-limit, limit)])
    return chance.choice([0.0, -0.0, 1e-300, 1e100, chance.random(), -chance.random() * 1e9])


def _fill(message: Any, metrics: Any, chance: random.Random) -> dict[str, Any]:
    share = chance.random()
    values = {metric.name: _value(metric, chance) for metric in metrics if chance.random() < share}
    for name, value in values.items():
        setattr(message, name, value)
    return values


@pytest.mark.parametrize("kind", contract.kinds())
def test_what_goes_in_comes_out(kind: str, postgres_url: str) -> None:
    """Random results of a kind, among them extremes, are equal after the way through binary COPY."""
    chance = random.Random(7)
    known = contract.kind(kind)
    expected: list[dict[str, Any]] = []
    children: dict[str, list[dict[str, Any]]] = {child.name: [] for child in known.children}
    packed = []
    for number in range(300):
        result = probe_pb2.Result(
            job_id=number + 1,
            job_version=chance.randrange(2**31),
            scheduled_at_us=_TODAY_US + chance.randrange(86_400_000_000),
            started_at_us=chance.randrange(2_000_000_000_000_000),
            duration_ms=chance.random() * 1000,
            status=chance.choice([1, 2, 3, 4]),
            failure_source=chance.randrange(8),
            error=chance.choice(["", "no route → ütf8 " * 20]),
            detail_json=chance.choice(["", json.dumps({"a": [1, None, "ü"]})]),
        )
        if chance.random() < 0.5:
            result.failure_reason = chance.choice(probe_pb2.FailureReason.values())
            result.clock_offset_ms = chance.random()
            result.start_error_us = chance.randrange(-(2**31), 2**31)
        metrics: dict[str, Any] = {}
        if chance.random() < 0.1:
            result.kind = kind
        else:
            message = getattr(result, kind)
            message.SetInParent()
            metrics = _fill(message, known.metrics, chance)
            for child in known.children:
                for index in range(chance.randrange(4)):
                    row = getattr(message, child.name).add(**{child.key: f"key {index}"})
                    children[child.name].append(
                        {"job_id": number + 1, "key": f"key {index}", **_fill(row, child.metrics, chance)}
                    )
        expected.append(
            {
                "job_id": result.job_id,
                "job_version": result.job_version,
                "scheduled_at": _EPOCH + dt.timedelta(microseconds=result.scheduled_at_us),
                "started_at": _EPOCH + dt.timedelta(microseconds=result.started_at_us),
                "duration_ms": result.duration_ms,
                "status": result.status,
                "failure_source": result.failure_source,
                "failure_reason": result.failure_reason if result.HasField("failure_reason") else None,
                "error": result.error or None,
                "detail": json.loads(result.detail_json) if result.detail_json else None,
                "clock_offset_ms": result.clock_offset_ms if result.HasField("clock_offset_ms") else None,
                "start_error_us": result.start_error_us if result.HasField("start_error_us") else None,
                **{
                    results.metric_column(kind, metric.name).name: metrics.get(metric.name)
                    for metric in known.metrics
                },
            }
        )
        packed.append(pack(result))
    with psycopg.connect(postgres_url, row_factory=psycopg.rows.dict_row) as connection:
        groups: list[tuple[str | None, list[bytes]]] = [(None, [row.row for row in packed])]
        groups += [
            (child, [row for each in packed for name, row in each.children if name == child])
            for child in children
        ]
        for child, rows in groups:
            target = copy_target(kind, child)
            with connection.cursor().copy(
                f"COPY {target.table} ({target.column_list}) FROM STDIN (FORMAT BINARY)".encode()
            ) as copy:
                copy.write(HEADER + b"".join(rows) + TRAILER)
        table = results.table_name(kind)
        stored = connection.execute(f"SELECT * FROM {table} ORDER BY job_id".encode()).fetchall()
        assert stored == expected
        for child_name, child_rows in children.items():
            child_table = results.child_table_name(kind, child_name)
            child_metrics = next(c for c in known.children if c.name == child_name).metrics
            names = ["job_id", "key", *(metric.name for metric in child_metrics)]
            columns = ", ".join(f'"{name}"' for name in names)
            stored = connection.execute(
                f"SELECT {columns} FROM {child_table} ORDER BY job_id, key".encode()
            ).fetchall()
            assert stored == [{name: row.get(name) for name in names} for row in child_rows]
