"""Result tables from the contract: which columns, of which types, in which order."""

from __future__ import annotations

import datetime as dt

import pytest
from sqlalchemy import MetaData

from controller.store import partitions, results
from controller.store.entities import Base
from streamswarm import contract
from streamswarm.contract import Child, ContractError, Metric

WIDTHS = {"int8": 8, "timestamptz": 8, "float8": 8, "int4": 4, "int2": 2, "bool": 1, "text": 0, "jsonb": 0}


def make_metric(name: str) -> Metric:
    """Return a metric of a name."""
    return Metric(
        event="",
        name=name,
        type="number",
        bits=64,
        label=name,
        unit="1",
        description="",
        better="neither",
        group="",
        role="none",
        distribution=False,
        reference="",
        headline=True,
        layer="none",
    )


@pytest.mark.parametrize("kind", results.kinds())
def test_every_kind_has_its_tables(kind: str) -> None:
    """Every metric has a column of its type, nullable; envelope and key are there; the widest come first."""
    columns = results.columns(kind)
    named = {column.name: column for column in columns}
    assert {"job_id", "scheduled_at", "job_version", "started_at", "duration_ms", "status"} <= set(named)
    assert {"failure_source", "error", "clock_offset_ms", "detail"} <= set(named)
    widths = [WIDTHS[column.type] for column in columns]
    assert widths == sorted(widths, reverse=True)
    for metric in contract.kind(kind).metrics:
        column = results.metric_column(kind, metric.name)
        assert column.metric == metric
        assert column.nullable
        assert (
            column.type
            == {
                ("integer", 32): "int4",
                ("integer", 64): "int8",
                ("number", 64): "float8",
                ("number", 32): "float8",
                ("boolean", 32): "bool",
            }[(metric.type, metric.bits)]
        )
    table = results.table(kind)
    assert [column.name for column in table.columns] == [column.name for column in columns]
    assert [column.name for column in table.primary_key] == ["job_id", "scheduled_at"]
    assert table.metadata is Base.metadata


def test_child_tables_have_a_key() -> None:
    """A repeated group has one row a key, beside the run that it belongs to."""
    table = results.child_table("system", "interfaces")
    assert table.name == "result_system_interfaces"
    assert [column.name for column in table.primary_key] == ["job_id", "scheduled_at", "key"]
    named = {column.name: column.type for column in results.child_columns("system", "interfaces")}
    assert named["key"] == "text"
    assert named["receive_bytes_per_s"] == "float8"
    assert named["mtu_bytes"] == "int4"
    assert named["up"] == "bool"
    assert "name" not in named
    with pytest.raises(KeyError, match="not a repeated group of `ping`"):
        results.child_columns("ping", "interfaces")


def test_metrics_with_a_name_of_the_envelope_are_set_apart() -> None:
    """HTTP's status code does not take the place of the run's status."""
    assert results.metric_column("http", "status").name == "http_status"
    assert results.metric_column("http", "status").type == "int4"


def test_a_contract_that_makes_no_table_is_refused() -> None:
    """Two columns of one name, and names too long for partitions, are faults of the contract."""
    ping = contract.kind("ping")
    twice = {**ping.__dict__, "metrics": (make_metric("status"), make_metric("ping_status"))}
    with pytest.raises(ContractError, match="two columns `ping_status`"):
        results.add_tables(type(ping)(**twice), MetaData())
    child = Child(name="x" * 60, key="name", metrics=(make_metric("value"),))
    with pytest.raises(ContractError, match="longer than"):
        results.add_tables(type(ping)(**{**ping.__dict__, "children": (child,)}), MetaData())


def test_a_kind_of_tomorrow_needs_nothing_here() -> None:
    """Any kind that the contract describes gets its tables."""
    ping = contract.kind("ping")
    child = Child(name="hops", key="hop", metrics=(make_metric("rtt_ms"),))
    kind = type(ping)(**{**ping.__dict__, "name": "trace", "children": (child,)})
    assert [table.name for table in results.add_tables(kind, MetaData())] == [
        "result_trace",
        "result_trace_hops",
    ]


def test_days_and_names_of_partitions() -> None:
    """Days are those of UTC, from some days back to some ahead; names carry the day."""
    late_in_berlin = dt.datetime(2026, 11, 21, 0, 30, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    assert partitions.days_around(late_in_berlin, ahead=1, back=1) == [
        dt.date(2026, 11, 19),
        dt.date(2026, 11, 20),
        dt.date(2026, 11, 21),
    ]
    assert partitions.partition_name("result_ping", dt.date(2026, 11, 20)) == "result_ping_2026_11_20"
    assert partitions.is_partition("result_system_disks_2026_11_20")
    assert all(partitions.is_partition(f"{form}_result_ping_2026_11_20") for form in ("new", "late", "old"))
    assert not partitions.is_partition("result_system_disks")
    assert (
        max(len(partitions.partition_name(table, dt.date(2026, 1, 1))) for table in results.all_table_names())
        < 58
    )


def test_only_result_tables_are_partitioned() -> None:
    """The name of a table never comes from elsewhere."""
    with pytest.raises(ValueError, match="is not a result table"):
        partitions.partition_statements("jobs; DROP TABLE jobs", dt.date(2026, 1, 1))
