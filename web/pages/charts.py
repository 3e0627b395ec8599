"""Charts of a test: which there are, from the contract, and the data that they ask for as JSON."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from flask import Response, request, url_for
from werkzeug.datastructures import MultiDict

from controller.checking import MAX_ID
from controller.planning.gaps import Gap
from controller.store.queries import charts, events, operations, results, tests
from controller.store.queries.operations import OperationMark
from controller.store.queries.results import Line
from streamswarm import contract
from streamswarm.contract import Child, InvalidInputError, Kind, Metric, Problem
from streamswarm.targets import shown
from web.auth import requires
from web.database import transaction
from web.forms import UNIT_WORDS
from web.pages.blueprint import blueprint

#: Seconds and words of the range buttons; the first is chosen at first.
RANGES = (
    (300, "5 min"),
    (3600, "1 h"),
    (21600, "6 h"),
    (86400, "24 h"),
    (604800, "7 d"),
    (2592000, "30 d"),
    (31536000, "1 y"),
    (315360000, "10 y"),
)
#: Lines that one board draws; more could not be told apart.
MOST_LINES = 24
#: Digits of a time in milliseconds, up to the year 2286.
_LONGEST_INSTANT = 13
#: The worker that there never is.
_NOBODY = uuid.UUID(int=0)
#: Names of metrics that tell of the spread of one figure: `rtt_p95_ms`.
_SPREAD = re.compile(r"(?P<figure>.+)_(?P<part>min|avg|median|max|p\d{1,2})_[a-z]+")
#: Roles whose charts stand open; the others are folded away.
_OPEN_ROLES = ("latency", "loss", "jitter", "throughput", "utilisation")


@dataclass(frozen=True, kw_only=True)
class ChartGroup:
    """Metrics that share a chart: one group of the contract and one unit."""

    title: str
    #: UCUM.
    unit: str
    metrics: tuple[Metric, ...]
    #: The one that is compared when a test has several jobs.
    first: Metric
    #: Stands open from the beginning.
    main: bool
    #: Has the kind's headline and is drawn large.
    first_of_all: bool
    #: The repeated group whose rows it draws; empty for the kind's own metrics.
    child: str = ""
    #: Metrics of the spread of one figure and of loss, by what they are; None where the group has no such spread.
    smoke: Mapping[str, Any] | None = None

    @property
    def slug(self) -> str:
        """Name of the group in ids."""
        words = f"{self.child} {self.title} {self.unit}"
        return "-".join("".join(c if c.isalnum() else " " for c in words).lower().split())

    @property
    def axis(self) -> str:
        """What the axis is labelled with."""
        return UNIT_WORDS.get(self.unit, self.unit)

    @property
    def help(self) -> str:
        """What the metrics mean and who defines them."""
        return " ".join(
            f"{metric.label}: {metric.description}{f' ({metric.reference})' if metric.reference else ''}"
            for metric in self.metrics[:4]
        )

    @property
    def config(self) -> dict[str, Any]:
        """What the script that draws it must know."""
        return {
            "title": self.title,
            "unit": self.unit,
            "first": self.first.name,
            "smoke": self.smoke,
            "metrics": [
                {"name": metric.name, "label": metric.label, "description": metric.description}
                for metric in self.metrics
            ],
        }


def chart_groups(source: Kind | Child) -> list[ChartGroup]:
    """Return the charts of a kind, or of the rows of one of its repeated groups: the headline's first, folded ones last."""
    grouped: dict[tuple[str, str], list[Metric]] = {}
    for metric in source.metrics:
        grouped.setdefault((metric.group or metric.label, metric.unit), []).append(metric)
    titles = [title for title, _ in grouped]
    groups = []
    for (title, unit), metrics in grouped.items():
        headline = any(metric.headline for metric in metrics)
        named = f"{title} ({UNIT_WORDS.get(unit, unit) or 'count'})" if titles.count(title) > 1 else title
        groups.append(
            ChartGroup(
                title=named,
                unit=unit,
                metrics=tuple(metrics),
                first=next((metric for metric in metrics if metric.headline), metrics[0]),
                main=headline or any(metric.role in _OPEN_ROLES for metric in metrics),
                first_of_all=headline,
                child=source.name if isinstance(source, Child) else "",
                smoke=None if isinstance(source, Child) else smoke_of(metrics, source.metrics),
            )
        )
    return sorted(groups, key=lambda group: (not group.first_of_all, not group.main))


def smoke_of(metrics: Sequence[Metric], every: Sequence[Metric]) -> dict[str, Any] | None:
    """Return which metrics of a group are the spread of one figure: `low`, `center` and `tops` from the largest down.

    `loss` is the kind's share of lost packets; None where it has none.
    """
    spread: dict[str, dict[str, str]] = {}
    for metric in metrics:
        if found := _SPREAD.fullmatch(metric.name):
            spread.setdefault(found["figure"], {})[found["part"]] = metric.name
    for parts in spread.values():
        center = parts.get("median") or parts.get("avg")
        if center and {"min", "max"} <= parts.keys():
            shares = sorted((part for part in parts if part[0] == "p"), key=lambda part: -int(part[1:]))
            loss = next((one.name for one in every if one.role == "loss" and one.unit == "%"), None)
            tops = [parts["max"], *(parts[part] for part in shares)]
            return {"low": parts["min"], "center": center, "tops": tops, "loss": loss}
    return None


@blueprint.get("/tests/<int:test_id>/chart.json")
@requires("viewer")
def test_chart(test_id: int) -> Response:
    """Return the points that a page's charts lack.

    `from` and `to` are milliseconds since 1970, `metrics` names what is wanted; `step=0` asks for single runs, as a
    page does that adds the newest to what it has. `worker` and `destination` leave one pair of them.
    """
    start, end = asked_range()
    with transaction() as session:
        found = tests.get(session, test_id)
        kind = contract.kind(found.kind)
        metrics = asked_metrics(kind)
        every = results.drawn_lines(
            session, test_id, most=MOST_LINES, start=start, end=end, **pair_of(request.args)
        )
        plans = results.read_plans(session, every.lines, start=start, end=end)
        bucket = (
            None
            if request.args.get("step") == "0"
            else charts.bucket_for(session, plans, start=start, end=end)
        )
        drawn = charts.chart_lines(session, plans, metrics, start=start, end=end, bucket=bucket)
        marks = operations.marks_of_test(session, test_id, start=start, end=end)
        found_events = events.find(session, test_id, found.kind, start=start, end=end)
    # Tens of thousands of numbers, which the standard library takes a tenth of a second to write on a small machine.
    body = orjson.dumps(
        {
            "now": milliseconds(dt.datetime.now(dt.UTC)),
            "step": width_ms(bucket),
            "lines": every.total,
            "series": [_series(item, found_events.items) for item in drawn],
            "events_from": (milliseconds(found_events.complete_from) if found_events.complete_from else None),
            "operations": [_mark(mark) for mark in marks],
        }
    )
    return Response(body, mimetype="application/json", headers={"Cache-Control": "no-store"})


def _series(drawn: charts.ChartLine, found: Sequence[events.EventRecord]) -> dict[str, Any]:
    line = drawn.line
    own = [
        event
        for event in reversed(found)
        if (event.worker_id, event.destination_id) == (line.worker_id, line.destination_id)
    ]
    return {
        "id": f"{line.worker_id} {line.destination_id or ''}",
        "label": line_label(line),
        "gaps": gap_list(drawn.gaps),
        "t": [milliseconds(at) for at in drawn.at],
        "failed": drawn.failed,
        "error": drawn.error,
        "missed": drawn.missed,
        "events": [
            {
                "t": milliseconds(event.scheduled_at),
                "event": event.event,
                **({"count": event.count} if event.count > 1 else {}),
            }
            for event in own
        ],
        "metrics": {
            name: {"mean": band.mean, **({"low": band.low, "high": band.high} if band.low else {})}
            for name, band in drawn.bands.items()
        },
    }


def _mark(mark: OperationMark) -> dict[str, Any]:
    return {
        "id": mark.id,
        "label": f"{mark.kind} {mark.id}",
        "state": mark.state,
        "hosts": mark.hosts,
        "url": url_for("pages.operation", operation_id=mark.id),
        "from": milliseconds(mark.started_at),
        "to": milliseconds(mark.finished_at) if mark.finished_at else None,
    }


def pair_of(asked: MultiDict[str, str]) -> dict[str, Any]:
    """Return the `worker` and the `destination` that are named, as lines are asked for; what is no name of any is one of nobody's."""
    worker, destination = asked.get("worker"), asked.get("destination", type=int)
    try:
        worker_id = uuid.UUID(worker) if worker else None
    except ValueError:
        worker_id = _NOBODY
    if destination is not None and not 0 < destination <= MAX_ID:
        destination = 0
    return {"worker": worker_id, "destination": destination}


def asked_metrics(source: Kind | Child) -> list[str]:
    """Return the metrics that a page asks for."""
    wanted = [name for name in request.args.get("metrics", "").split(",") if name]
    known = {metric.name for metric in source.metrics}
    for name in wanted:
        if name not in known:
            raise InvalidInputError(
                [Problem(path="metrics", message=f"`{shown(name)}` is not a metric of `{source.name}`")]
            )
    return list(dict.fromkeys(wanted))


def asked_range() -> tuple[dt.datetime, dt.datetime]:
    """Return the range that a page asks for."""
    start, end = _instant("from"), _instant("to")
    if end <= start:
        raise InvalidInputError([Problem(path="to", message="must lie after `from`")])
    return start, end


def line_label(line: Line) -> str:
    """Return what a line is called on a chart."""
    name = f"{line.worker_name} → {line.destination_name}" if line.destination_name else line.worker_name
    return f"{name} (no longer part of the test)" if line.retired else name


def _instant(name: str) -> dt.datetime:
    text = request.args.get(name, "")
    if not text.isascii() or not text.isdigit() or len(text) > _LONGEST_INSTANT:
        raise InvalidInputError(
            [Problem(path=name, message="must be an instant in milliseconds since 1970-01-01 UTC")]
        )
    return dt.datetime.fromtimestamp(int(text) / 1000, dt.UTC)


def gap_list(gaps: Sequence[Gap]) -> list[dict[str, Any]]:
    """Return gaps as pages name them; from and to in milliseconds."""
    return [
        {"from": gap.start_us / 1000, "to": gap.end_us / 1000, "missing": gap.reason == "missing"}
        for gap in gaps
    ]


def milliseconds(instant: dt.datetime) -> int:
    """Return an instant as pages name it."""
    return round(instant.timestamp() * 1000)


def width_ms(bucket: dt.timedelta | None) -> int:
    """Return the width of buckets as pages name it; 0 where every point is a run."""
    return int(bucket.total_seconds() * 1000) if bucket else 0
