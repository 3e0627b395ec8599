"""Reads results: the latest of each job, series for charts, recent runs, counts by status.

Names of kinds and metrics are looked up in the contract before they come near SQL. What was not measured stays
missing.
"""

from controller.store.queries.results.drawn import DrawnLines, drawn_lines
from controller.store.queries.results.gaps import (
    Plan,
    Run,
    gaps_of_buckets,
    gaps_of_runs,
    plans_of,
    read_plans,
)
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
    with_gaps,
)

__all__ = [
    "MAX_POINTS",
    "Counts",
    "DrawnLines",
    "Line",
    "LineResult",
    "Plan",
    "Point",
    "ResultRecord",
    "Run",
    "Series",
    "bucket_width",
    "counts",
    "drawn_lines",
    "gaps_of_buckets",
    "gaps_of_runs",
    "latest",
    "lines",
    "plans_of",
    "point_of",
    "read_plans",
    "recent",
    "series",
    "with_gaps",
]
