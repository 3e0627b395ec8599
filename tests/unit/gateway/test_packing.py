"""Every metric of every kind is packed into its own column, and what was not measured into none."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from controller.gateway import packing
from controller.store import results
from streamswarm import contract
from streamswarm.v1 import probe_pb2

FORMATS = {"float8": "!d", "int8": "!q", "int4": "!i", "int2": "!h", "bool": "!?", "timestamptz": "!q"}


def unpack(row: bytes, columns: tuple[results.ResultColumn, ...]) -> dict[str, Any]:
    """Read a row of PostgreSQL's binary COPY format."""
    (count,) = struct.unpack_from("!h", row)
    assert count == len(columns)
    place, values = 2, {}
    for column in columns:
        (length,) = struct.unpack_from("!i", row, place)
        place += 4
        values[column.name] = None
        if length >= 0:
            raw = row[place : place + length]
            values[column.name] = (
                struct.unpack(FORMATS[column.type], raw)[0] if column.type in FORMATS else raw
            )
            place += length
    assert place == len(row)
    return values


def measured(metrics: tuple[contract.Metric, ...]) -> dict[str, Any]:
    """A value for each metric, all different where the type allows it."""
    return {
        metric.name: metric.type == "boolean" or (number + 1000 if metric.type == "integer" else number + 0.5)
        for number, metric in enumerate(metrics)
    }


def result_of(kind: contract.Kind) -> probe_pb2.Result:
    return probe_pb2.Result(
        job_id=7,
        job_version=2,
        scheduled_at_us=1_760_000_000_000_000,
        started_at_us=1_760_000_000_000_001,
        status=probe_pb2.STATUS_OK,
    )


@pytest.mark.parametrize("name", list(contract.kinds()))
def test_each_metric_has_its_column(name: str) -> None:
    """All metrics set: each column holds the value of its metric, the envelope its own."""
    kind = contract.kind(name)
    result = result_of(kind)
    values = measured(kind.metrics)
    for metric, value in values.items():
        setattr(getattr(result, name), metric, value)
    for child in kind.children:
        message = getattr(getattr(result, name), child.name).add()
        setattr(message, child.key, "first")
        for metric, value in measured(child.metrics).items():
            setattr(message, metric, value)

    packed = packing.pack(result)
    row = unpack(packed.row, results.columns(name))
    assert (row["job_id"], row["job_version"], row["status"]) == (7, 2, probe_pb2.STATUS_OK)
    for metric, value in values.items():
        assert row[results.metric_column(name, metric).name] == value, metric
    for child, (group, child_row) in zip(kind.children, packed.children, strict=True):
        assert group == child.name
        columns = results.child_columns(name, child.name)
        held = unpack(child_row, columns)
        expected = measured(child.metrics)
        assert {column.metric.name: held[column.name] for column in columns if column.metric} == expected
        assert b"first" in held.values()


@pytest.mark.parametrize("name", list(contract.kinds()))
def test_what_was_not_measured_is_null(name: str) -> None:
    """An empty result message has no number, not even a zero."""
    result = result_of(contract.kind(name))
    getattr(result, name).SetInParent()
    row = unpack(packing.pack(result).row, results.columns(name))
    assert {row[column.name] for column in results.columns(name) if column.metric} == {None}


@pytest.mark.parametrize("instant", ["scheduled_at", "started_at"])
@pytest.mark.parametrize("at_us", [-(2**63), packing.EARLIEST_US - 1, packing.LATEST_US, 2**63 - 1])
def test_an_instant_outside_of_the_calendar_is_refused(instant: str, at_us: int) -> None:
    """In words, and no number is too large to say so."""
    result = result_of(contract.kind("ping"))
    result.ping.rtt_avg_ms = 1
    setattr(result, f"{instant}_us", at_us)
    with pytest.raises(packing.UnstorableError, match=f"{instant} lies outside of the calendar"):
        packing.pack(result)
