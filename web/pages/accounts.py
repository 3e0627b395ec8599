"""Where every run of a test is: for each of its jobs what was due in a range of time, and what came of it.

A page of its own, because counting reads every result of the range.
"""

from __future__ import annotations

import datetime as dt

from flask import render_template, request

from controller.planning.accounts import Account
from controller.quantities import share
from controller.store.queries import accounts, tests
from controller.store.queries.due_runs import MOST_RUNS
from controller.store.queries.versions import SETTLING
from web.auth import requires
from web.database import transaction
from web.pages.blueprint import blueprint

#: Seconds and words of the ranges, all of which end a minute ago.
RANGES = ((3600, "1 h"), (21600, "6 h"), (86400, "24 h"), (604800, "7 d"), (2592000, "30 d"))
_USUAL = 86400
#: So many lines are drawn at the most, and only as many as can be counted while somebody waits.
_MOST_LINES = 200


@blueprint.get("/tests/<int:test_id>/accounts")
@requires("viewer")
def test_accounts(test_id: int) -> str:
    """Show what was due in a range, and what came of it."""
    chosen = request.args.get("range", type=int)
    seconds = chosen if chosen in dict(RANGES) else _USUAL
    end = dt.datetime.now(dt.UTC) - SETTLING
    start = end - dt.timedelta(seconds=seconds)
    with transaction() as session:
        test = tests.get(session, test_id)
        found = accounts.of_test(
            session, test_id, test.kind, start=start, end=end, most_lines=_MOST_LINES, most_runs=MOST_RUNS
        )
    total = sum((item.account for item in found.items), Account())
    return render_template(
        "tests/accounts.html",
        test=test,
        items=found.items,
        total=total,
        left_out=found.left_out,
        most_runs=MOST_RUNS,
        start=start,
        end=end,
        counted_from=found.counted_from,
        covered=covered,
        ranges=RANGES,
        seconds=seconds,
    )


def covered(account: Account) -> str:
    """Return the share of expected runs that were measured."""
    return share(account.covered, account.expected)
