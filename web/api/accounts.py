"""`/tests/<id>/accounts`: for each job how many runs were due in a range of time, and what came of them."""

from __future__ import annotations

import datetime as dt
from typing import Any

from flask import Response, jsonify

from controller.plain import instant, plain
from controller.store.queries import accounts, tests
from controller.store.queries.accounts import JobAccount
from controller.store.queries.due_runs import MOST_RUNS, Lines, refuse_too_many
from controller.store.queries.versions import SETTLING
from web.api.asking import Query
from web.api.blueprint import blueprint
from web.api.describing import INSTANT, described, said
from web.api.schemas import Named, closed, record
from web.auth import requires
from web.database import transaction

_RANGE = dt.timedelta(hours=24)
_COUNTS = {
    "expected": "Due by the schedule as it was at the time, while the worker was in service.",
    "ok": "",
    "failed": "",
    "error": "Could not be measured.",
    "missed": "Due and not started, as the worker told.",
    "undelivered": "Due, and nothing has come of it.",
    "beyond": "Received although the known plan did not have it: at an instant that was not due, or by no known version.",
    "beyond_measured": "Of `beyond`, those that are `ok` or `failed`.",
    "drained": "Due while the worker was drained, and nothing has come of them; not in `expected`.",
}
_ITEM = record(
    JobAccount,
    without=("account",),
    **{
        name: {"type": "integer", **({"description": text} if text else {})} for name, text in _COUNTS.items()
    },
)
_ANSWER = Named(
    "accounts",
    closed(
        {
            "from": INSTANT,
            "to": said(INSTANT, "Runs due from here on are not counted; at the latest a minute ago."),
            "counted_from": said(
                INSTANT,
                "Runs due before are not counted, for their results have expired; `from` when none of the range have.",
            ),
            "items": {"type": "array", "items": _ITEM},
            "next_cursor": {"type": "null"},
        }
    ),
)


@blueprint.get("/tests/<id:test_id>/accounts")
@requires("viewer")
@described(
    query={
        "from": said(
            INSTANT,
            "A day before `to` unless sent. Where more than "
            f"{MOST_RUNS:,} runs of the test were due in the range, the answer says where it can begin.",
        ),
        "to": INSTANT,
    },
    answers=_ANSWER,
)
def show_accounts(test_id: int) -> Response:
    """Count for each job of a test what was due in a range and what came of it."""
    query = Query()
    start, end = query.range(usual=_RANGE)
    query.done()
    end = max(start, min(end, dt.datetime.now(dt.UTC) - SETTLING))
    with transaction() as database:
        test = tests.get(database, test_id)
        refuse_too_many(database, Lines(test_id=test_id, kind=test.kind), start=start, end=end)
        found = accounts.of_test(database, test_id, test.kind, start=start, end=end)
    return jsonify(
        {
            "from": instant(start),
            "to": instant(end),
            "counted_from": instant(found.counted_from),
            "items": [_shown(item) for item in found.items],
            "next_cursor": None,
        }
    )


def _shown(item: JobAccount) -> dict[str, Any]:
    shown: dict[str, Any] = plain(item)
    shown.pop("account")
    return {**shown, **{name: getattr(item.account, name) for name in _COUNTS}}
