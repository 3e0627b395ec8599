"""Reads results: the latest of each job, series for charts, recent runs, counts by status.

Names of kinds and metrics are looked up in the contract before they come near SQL. What was not measured stays
missing.
"""

from controller.store.queries.results.records import (
    Counts,
    Line,
    LineResult,
    ResultRecord,
    counts,
    latest,
    lines,
    recent,
)
from controller.store.queries.results.series import (
    MAX_POINTS,
    Point,
    Series,
    bucket_width,
    point_of,
    series,
    with_empty_buckets,
    with_empty_runs,
)

__all__ = [
    "MAX_POINTS",
    "Counts",
    "Line",
    "LineResult",
    "Point",
    "ResultRecord",
    "Series",
    "bucket_width",
    "counts",
    "latest",
    "lines",
    "point_of",
    "recent",
    "series",
    "with_empty_buckets",
    "with_empty_runs",
]
