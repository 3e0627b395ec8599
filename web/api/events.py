"""`/tests/<id>/events`: what happened to a test's lines that is no failure, such as a path that changed."""

from __future__ import annotations

import datetime as dt

from flask import Response

from controller.store.queries import events, tests
from controller.store.queries.events import EventRecord
from web.api.asking import Query
from web.api.blueprint import blueprint, listed
from web.api.describing import ID, INSTANT, UUID, described, said
from web.api.schemas import record
from web.auth import requires
from web.database import transaction

#: Range when the call names none.
_RANGE = dt.timedelta(days=1)


@blueprint.get("/tests/<id:test_id>/events")
@requires("viewer")
@described(
    query={
        "from": said(INSTANT, "Included; a day before `to` unless sent."),
        "to": said(INSTANT, "Not included."),
        "worker": UUID,
        "destination": ID,
    },
    paged=True,
    answers=record(EventRecord),
)
def list_events(test_id: int) -> Response:
    """List a test's events, newest first: paths that changed, by the metrics whose kind declares them.

    Where results have expired, the roll-ups tell in which hour or day events were, and how many.
    """
    query = Query()
    start, end = query.range(usual=_RANGE)
    worker, destination = query.uuid("worker"), query.id("destination")
    paging = query.paging()
    query.done()
    with transaction() as database:
        test = tests.get(database, test_id)
        found = events.find(
            database,
            test_id,
            test.kind,
            start=start,
            end=end,
            worker=worker,
            destination=destination,
            cursor=paging.cursor,
            limit=paging.limit,
        )
    return listed(found)
