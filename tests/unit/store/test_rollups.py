"""Roll-up tables: what the contract's metrics become, and where buckets begin."""

from __future__ import annotations

import datetime as dt

import pytest

from controller.store import results, rollups
from controller.store.entities import Base

UTC = dt.UTC


def test_every_result_and_roll_up_table_keeps_the_job_in_its_key() -> None:
    """A database can be shared out by `job_id` only when it is part of every such table's primary key."""
    names = [*results.all_table_names(), *rollups.all_table_names()]
    assert len(names) == len(set(names)) == 4 * len(results.all_table_names())
    assert [table.name for table in rollups.all_tables()] == list(rollups.all_table_names())
    for name in names:
        key = [column.name for column in Base.metadata.tables[name].primary_key.columns]
        assert key[0] == "job_id", name
        assert len(key) > 1, name


def test_every_metric_has_its_columns() -> None:
    """Count, sum, minimum and maximum of each metric; sketches where the contract says `distribution`."""
    for kind in results.kinds():
        for source in rollups.sources(kind):
            names = {name for name, _ in rollups.columns(source)}
            for column in source.metrics:
                wanted = {f"{column.name}_{part}" for part in ("n", "sum", "min", "max")}
                assert wanted <= names
                assert (f"{column.name}_sketch" in names) == rollups.is_sketched(column)
            assert (set(rollups.RUNS.values()) <= names) == (source.child is None)


@pytest.mark.parametrize("of", rollups.LAYERS)
def test_buckets_begin_at_whole_multiples(of: rollups.Layer) -> None:
    """The beginning of a bucket is its own floor and ceiling, also before the epoch."""
    for start in (
        dt.datetime(2026, 3, 29, tzinfo=UTC),
        dt.datetime(2024, 2, 29, tzinfo=UTC),
        dt.datetime(1999, 12, 31, tzinfo=UTC),
    ):
        assert rollups.floor(start, of.width) == rollups.ceil(start, of.width) == start
        inside = start + dt.timedelta(microseconds=1)
        assert rollups.floor(inside, of.width) == start
        assert rollups.ceil(inside, of.width) == start + of.width


def test_layers_fit_into_each_other() -> None:
    """Each layer's width is a multiple of that of the one before, and none is narrower than a mark."""
    assert rollups.LAYERS[0].width == dt.timedelta(seconds=rollups.BUCKET_S)
    for narrow, wide in zip(rollups.LAYERS, rollups.LAYERS[1:], strict=False):
        assert wide.width % narrow.width == dt.timedelta(0)
