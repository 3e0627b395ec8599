"""Charts of repeated groups on a test's page: hops, interfaces, classes; a line for each row of one worker and destination."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flask import Response, jsonify, request
from sqlalchemy.orm import Session
from werkzeug.datastructures import MultiDict

from controller.store.queries import children, results, tests
from controller.store.queries.children import Group, Keys
from controller.store.queries.results import Line
from streamswarm import contract
from streamswarm.contract import Child, InvalidInputError, Kind, Problem
from streamswarm.targets import shown
from web.auth import requires
from web.database import transaction
from web.pages.blueprint import blueprint
from web.pages.charts import (
    MOST_LINES,
    ChartGroup,
    asked_metrics,
    asked_range,
    chart_groups,
    gap_list,
    line_label,
    milliseconds,
    pair_of,
    width_ms,
)

#: Pairs of worker and destination that a page offers.
MOST_CHOICES = 200


@dataclass(frozen=True, kw_only=True)
class Section:
    """The charts of one repeated group."""

    child: Child
    #: Stands open from the beginning: the kind is looked at row by row.
    open: bool
    charts: tuple[ChartGroup, ...]
    #: Folded away.
    more: tuple[ChartGroup, ...]

    @property
    def title(self) -> str:
        """What the group is called."""
        return self.child.name.replace("_", " ").capitalize()


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A pair of worker and destination whose rows can be shown."""

    #: How a page asks for it.
    value: str
    label: str


def sections(kind: Kind) -> list[Section]:
    """Return the charts of a kind's repeated groups; the first group of a path stands open."""
    found: list[Section] = []
    for child in kind.children:
        groups = chart_groups(child)
        main = [group for group in groups if group.main] or groups
        found.append(
            Section(
                child=child,
                open=kind.view == "path" and not found,
                charts=tuple(main),
                more=tuple(group for group in groups if group not in main),
            )
        )
    return found


def choices(lines: Sequence[Line]) -> list[Choice]:
    """Return lines as a page offers them."""
    return [Choice(value=_value(line), label=line_label(line)) for line in lines]


@blueprint.get("/tests/<int:test_id>/rows.json")
@requires("viewer")
def test_rows(test_id: int) -> Response:
    """Return the points of the rows of a repeated group.

    `child` names the group, `line` the worker and the destination (the first line unless sent), `first` the row to
    begin with; `from`, `to` and `metrics` are as those of the test's own charts.
    """
    start, end = asked_range()
    first = _first()
    with transaction() as session:
        found = tests.get(session, test_id)
        child = _child(contract.kind(found.kind))
        metrics = asked_metrics(child)
        line = _line(session, test_id)
        if line is None:
            return _answer(child, None, Keys(names=(), more=False), 0, None, frozenset())
        keys = children.keys(session, line, child.name, start=start, end=end)
        # What was chosen may lie beyond the rows of another range.
        first = min(first, max(0, len(keys.names) - 1) // MOST_LINES * MOST_LINES)
        wanted = keys.names[first : first + MOST_LINES]
        plan = results.read_plans(session, [line], start=start, end=end)[line]
        bucket = children.bucket_for(session, line, plan, len(keys.names), start=start, end=end)
        group = children.read(
            session, line, plan, child.name, metrics, wanted, start=start, end=end, bucket=bucket
        )
        lately = children.keys_lately(session, line, child.name)
    return _answer(child, line, keys, first, group, lately)


def _answer(
    child: Child,
    line: Line | None,
    keys: Keys,
    first: int,
    group: Group | None,
    lately: frozenset[str],
) -> Response:
    middle = group.bucket / 2 if group and group.bucket else dt.timedelta(0)
    response = jsonify(
        {
            "line": line_label(line) if line else "",
            "total": len(keys.names),
            "more": keys.more,
            "first": first,
            "step": width_ms(group.bucket) if group else 0,
            "gaps": gap_list(group.gaps) if group else [],
            "t": [milliseconds(at + middle) for at in group.at] if group else [],
            "failed": group.failed if group else [],
            "error": group.error if group else [],
            "missed": group.missed if group else [],
            "rows": [_row(child, group, key, key in lately) for key in group.rows] if group else [],
        }
    )
    response.headers["Cache-Control"] = "no-store"
    return response


def _row(child: Child, group: Group, key: str, lately: bool) -> dict[str, Any]:
    name = f"{child.key} {int(key)}" if key.isascii() and key.isdigit() else key
    return {
        "id": key,
        "label": name if lately else f"{name} (not in the newest runs)",
        "metrics": {
            name: {
                "mean": [each and each.mean for each in points],
                **(
                    {
                        "low": [each and each.min for each in points],
                        "high": [each and each.max for each in points],
                    }
                    if group.bucket
                    else {}
                ),
            }
            for name, points in group.rows[key].items()
        },
    }


def _child(kind: Kind) -> Child:
    name = request.args.get("child", "")
    for child in kind.children:
        if child.name == name:
            return child
    raise InvalidInputError(
        [Problem(path="child", message=f"`{shown(name)}` is not a repeated group of `{kind.name}`")]
    )


def _line(session: Session, test_id: int) -> Line | None:
    """Return the line that is asked for; the first when none is named; None while there is none at all."""
    asked = request.args.get("line", "")
    worker, _, destination = asked.partition(" ")
    named = pair_of(MultiDict({"worker": worker, "destination": destination}))
    for line in results.drawn_lines(session, test_id, most=1, **named).lines:
        if asked in ("", _value(line)):
            return line
    if not asked:
        return None
    raise InvalidInputError(
        [
            Problem(
                path="line", message=f"`{shown(asked)}` is no worker and destination of this test (any more)"
            )
        ]
    )


def _value(line: Line) -> str:
    return f"{line.worker_id} {line.destination_id or ''}".strip()


def _first() -> int:
    text = request.args.get("first", "0")
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise InvalidInputError([Problem(path="first", message="must be a whole number of rows")])
    return int(text)
