"""`/tests/<id>/results` and `/tests/<id>/series`: what was measured."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

from flask import Response, jsonify
from sqlalchemy.orm import Session

from controller.plain import instant, plain
from controller.store.queries import children, results, runs, tests
from controller.store.queries.due_runs import MOST_RUNS, Lines, refuse_too_many
from controller.store.queries.results import MAX_POINTS, Line, Plan, Point, Series
from controller.store.queries.runs import RunRecord
from streamswarm import contract
from streamswarm.contract import InvalidInputError, Kind, Metric, Problem
from streamswarm.targets import shown
from web.api.asking import Query
from web.api.blueprint import blueprint, listed
from web.api.children import child_of
from web.api.describing import FLAG, ID, INSTANT, TEXT, UUID, described, said
from web.api.schemas import Named, closed, kind_metrics, record
from web.auth import requires
from web.database import transaction

#: Range of a series when the call names none.
_RANGE = dt.timedelta(hours=1)
#: Range in which runs are looked for by their clock when the call names none.
_SEARCHED = dt.timedelta(days=1)
#: Lines (pairs of worker and destination, and rows of a repeated group) in one answer.
_MOST_LINES = 50
#: Keys of rows that an error names.
_NAMED = 10
_RANGE_QUERY = {
    "from": said(INSTANT, "Included."),
    "to": said(INSTANT, "Not included."),
    "worker": UUID,
    "destination": ID,
}
_SERIES = Named(
    "series",
    closed(
        {
            "metric": {"type": "string"},
            "unit": {"type": "string", "description": "UCUM."},
            "child": {
                "type": ["string", "null"],
                "description": "The repeated group that the metric is of; null for one of the kind's own.",
            },
            "from": INSTANT,
            "to": INSTANT,
            "lines": {
                "type": "array",
                "items": Named(
                    "series_line",
                    closed(
                        {
                            "worker_id": UUID,
                            "worker": {"type": "string"},
                            "destination_id": {"type": ["integer", "null"]},
                            "destination": {"type": ["string", "null"]},
                            "key": {
                                "type": ["string", "null"],
                                "description": "Which row of the repeated group it is; null for a metric of the kind's own.",
                            },
                            "interval_s": said(
                                {"type": ["number", "null"]},
                                "At present; by cron the longest time between two runs of one day. Which runs were due at the time, "
                                "the points' `gap` tells.",
                            ),
                            "live": {
                                "type": "boolean",
                                "description": "Whether it is part of the test at present; of a repeated group's row, also whether one of "
                                f"the newest {children.LATELY} runs had it. Others come where they had runs in the range.",
                            },
                            "bucket_s": {
                                "type": ["number", "null"],
                                "description": "Width of the buckets; null when every point is a run.",
                            },
                            "points": {"type": "array", "items": record(Point)},
                        }
                    ),
                ),
            },
        }
    ),
)


@blueprint.get("/tests/<id:test_id>/results")
@requires("viewer")
@described(
    query={
        **_RANGE_QUERY,
        "clock_off": said(
            FLAG,
            "Only runs of a worker whose clock was off, or was not. They are looked for run by run: `from` is a day before `to`"
            f" unless sent, and where more than {MOST_RUNS:,} runs were due in the range, the answer says where it can begin.",
        ),
    },
    paged=True,
    answers=record(RunRecord, metrics=kind_metrics()),
)
def list_results(test_id: int) -> Response:
    """List a test's runs, newest first."""
    query = Query()
    worker, destination, paging = query.uuid("worker"), query.id("destination"), query.paging()
    clock_off = query.flag("clock_off")
    searched = None if clock_off is None else query.range(usual=_SEARCHED)
    start, end = searched or (query.instant("from"), query.instant("to"))
    query.done()
    with transaction() as database:
        test = tests.get(database, test_id)
        if searched:
            lines = Lines(test_id=test_id, kind=test.kind, worker=worker, destination=destination)
            refuse_too_many(database, lines, start=searched[0], end=searched[1])
        page = runs.find(
            database,
            test_id,
            test.kind,
            start=start,
            end=end,
            worker=worker,
            destination=destination,
            clock_off=clock_off,
            limit=paging.limit,
            cursor=paging.cursor,
        )
    return listed(page)


@blueprint.get("/tests/<id:test_id>/series")
@requires("viewer")
@described(
    query={
        "metric": said(
            TEXT, "The kind's headline unless sent; with `child` one of that group's, and needed."
        ),
        "child": said(
            TEXT,
            "A repeated group, such as `hops` or `interfaces`: a line for each of its rows that there was in the range.",
        ),
        "key": said(TEXT, "Only this row of the group `child`."),
        **_RANGE_QUERY,
        "live": said(
            FLAG,
            "Only pairs of worker and destination that are part of the test at present, or are no longer.",
        ),
    },
    answers=_SERIES,
)
def show_series(test_id: int) -> Response:
    """Show one metric over a range of time, a line for each worker and destination (and row of a repeated group)."""
    query = Query()
    name, child, key = query.text("metric"), query.text("child"), query.text("key")
    start, end = query.range(usual=_RANGE)
    worker, destination, live = query.uuid("worker"), query.id("destination"), query.flag("live")
    if key and not child:
        query.add("key", "names a row of a repeated group; send `child` too")
    query.done()
    with transaction() as database:
        test = tests.get(database, test_id)
        metric = _metric(contract.kind(test.kind), name, child)
        every = results.drawn_lines(
            database,
            test_id,
            most=_MOST_LINES,
            start=start,
            end=end,
            worker=worker,
            destination=destination,
            retired=None if live is None else not live,
        )
        _refuse_many(every.total, "worker", "name a worker or a destination")
        plans = results.read_plans(database, every.lines, start=start, end=end)
        lately: dict[Line, frozenset[str]] = {}
        if child:
            drawn = _of_rows(database, plans, child, metric, key, start=start, end=end)
            lately = {line: children.keys_lately(database, line, child) for line, _ in drawn}
        else:
            drawn = [
                (
                    line,
                    results.series(
                        database,
                        line.kind,
                        metric.name,
                        line.job_ids,
                        start=start,
                        end=end,
                        plan=plan,
                        points=MAX_POINTS,
                    ),
                )
                for line, plan in plans.items()
            ]
    return jsonify(
        {
            "metric": metric.name,
            "unit": metric.unit,
            "child": child or None,
            "from": instant(start),
            "to": instant(end),
            "lines": [
                {
                    **_line(line),
                    "live": line.live and (found.key is None or found.key in lately[line]),
                    "key": found.key,
                    "bucket_s": found.bucket_s,
                    "points": plain(found.points),
                }
                for line, found in drawn
            ],
        }
    )


def _metric(kind: Kind, name: str, child: str) -> Metric:
    """Return the metric that is asked for, of the kind or of one of its repeated groups."""
    if not child:
        return _named(name or kind.headline.name, kind.metrics)
    return _named(name, child_of(kind, child).metrics)


def _named(name: str, known: Sequence[Metric]) -> Metric:
    for metric in known:
        if metric.name == name:
            return metric
    names = ", ".join(metric.name for metric in known)
    what = f"`{shown(name)}` is not one of" if name else "is missing; it is one of"
    raise InvalidInputError([Problem(path="metric", message=f"{what} {names}")])


def _of_rows(
    database: Session,
    plans: Mapping[Line, Plan],
    child: str,
    metric: Metric,
    key: str,
    *,
    start: dt.datetime,
    end: dt.datetime,
) -> list[tuple[Line, Series]]:
    """Return a metric of the rows of a repeated group that these lines had, of all or of one."""
    keys = [children.keys(database, line, child, start=start, end=end) for line in plans]
    wanted = [
        _wanted(database, line, child, of_line, key, start=start, end=end)
        for line, of_line in zip(plans, keys, strict=True)
    ]
    names = list(dict.fromkeys(known for of_line in wanted for known in of_line))
    some = ", ".join(shown(known) for known in names[:_NAMED])
    more = " and others" if len(names) > _NAMED else ""
    counted = "more than " if not key and any(of_line.more for of_line in keys) else ""
    _refuse_many(
        sum(map(len, wanted)), "key", f"name one (of {some}{more}), a worker or a destination", counted
    )
    return [
        (line, series)
        for (line, plan), of_line, group in zip(plans.items(), wanted, keys, strict=True)
        if of_line
        for series in children.child_series(
            database,
            line,
            plan,
            child,
            metric.name,
            of_line,
            group_size=len(group.names),
            start=start,
            end=end,
            points=MAX_POINTS,
        )
    ]


def _wanted(
    database: Session,
    line: Line,
    child: str,
    known: children.Keys,
    key: str,
    *,
    start: dt.datetime,
    end: dt.datetime,
) -> list[str]:
    """Return the keys of a line that are asked for: all that are listed, or one, which need not be among them."""
    if not key:
        return list(known.names)
    there = key in known.names or (
        known.more and children.has_key(database, line, child, key, start=start, end=end)
    )
    return [key] if there else []


def _refuse_many(count: int, path: str, mend: str, counted: str = "") -> None:
    if count > _MOST_LINES:
        message = f"{counted}{count} lines are more than {_MOST_LINES}; {mend}"
        raise InvalidInputError([Problem(path=path, message=message)])


def _line(line: Line) -> dict[str, object]:
    return {
        "worker_id": str(line.worker_id),
        "worker": line.worker_name,
        "destination_id": line.destination_id,
        "destination": line.destination_name or None,
        "interval_s": line.interval_s,
    }
