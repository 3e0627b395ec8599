"""The first page: the fleet, live trends, recent failures, and what needs attention."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flask import render_template, url_for
from sqlalchemy.orm import Session

from controller.store.queries import accounts, due_runs, glances, overview, pages, suspects, tests
from controller.store.queries.accounts import OverdueLine
from controller.store.queries.overview import Overview
from controller.store.queries.workers import WorkerRecord
from streamswarm import contract
from web.auth import requires
from web.database import transaction
from web.pages.blueprint import blueprint
from web.pages.drawing import comb
from web.pages.formatting import exact, number
from web.pages.states import TestLook, run_state
from web.pages.tests_rows import TestRow, read_rows, with_trends

#: Tests whose trends are drawn; those in trouble come first.
_MOST_ROWS = 12
#: Workers that the picture of the fleet has cells for.
_MOST_CELLS = 500
#: Tests of each sort of trouble, and workers, that are looked at. More than can be read: the lists of tests and workers tell all.
_MOST_LOOKED_AT = 50
_RECENT = dt.timedelta(minutes=15)
_MOST_OVERDUE = 8
_TONES = {"ok": "ok", "failed": "failed", "error": "error", "missed": "missed", "stale": "attention"}
_REASONS = {
    "failed": "The destination did not do what was required.",
    "error": "Could not be measured; this says nothing about the destination.",
    "stale": "Results are overdue; until they come, the state is unknown.",
    "missed": "Runs were due and did not start.",
}
_TROUBLE = ("failed", "error", "stale", "missed")


@dataclass(frozen=True, kw_only=True)
class Attention:
    """One thing that somebody should look at."""

    state: str
    word: str
    title: str
    text: str
    href: str = ""
    #: A command that mends it.
    mend: str = ""


@dataclass(frozen=True, kw_only=True)
class Share:
    """One part of the bar of states, in percent of its width."""

    state: str
    word: str
    tone: str
    count: int
    x: float
    width: float


@blueprint.get("/", endpoint="overview")
@requires("viewer")
def overview_page() -> str:
    """Draw the whole page."""
    return render_template("overview/page.html", **_figures())


@blueprint.get("/overview/live")
@requires("viewer")
def overview_live() -> str:
    """Draw the part that lives."""
    return render_template("overview/live.html", **_figures())


def _figures() -> dict[str, Any]:
    with transaction() as session:
        suspected = suspects.find(session, most=_MOST_LOOKED_AT)
        looked_at = read_rows(session, tests.named(session, suspected.ids), trends=False)
        rows = [row for row in looked_at if _needs_attention(row)]
        ordered = sorted(rows, key=lambda row: (_rank(row.look), row.test.name.lower()))
        shown = with_trends(session, _shown(session, ordered))
        in_need = glances.in_need(session, limit=_MOST_LOOKED_AT)
        fleet = comb(glances.first(session, limit=_MOST_CELLS), glances.counted(session))
        failures = pages.recent_failures(session, within=_RECENT, limit=8)
        figures = overview.read(session)
        bad = pages.bad_runs(session, within=_RECENT)
        now = dt.datetime.now(dt.UTC)
        due = due_runs.total_due(session, None, start=now - _RECENT, end=now)
        late = accounts.overdue(session, limit=_MOST_OVERDUE)
    return {
        "figures": figures,
        "bad": bad,
        "due": due,
        "rows": sorted(shown, key=lambda row: (_rank(row.look), row.test.name.lower())),
        "more": figures.tests_total > len(shown),
        "failures": [(failure, *run_state(failure.status)) for failure in failures],
        "attention": attention(in_need, rows, late),
        "attention_cut": suspected.more or len(in_need) == _MOST_LOOKED_AT,
        "comb": fleet,
        "shares": shares(rows, figures, now),
    }


def _shown(session: Session, troubled: Sequence[TestRow]) -> list[TestRow]:
    """Return the tests whose trends are drawn: those in trouble, and others by name while there is room."""
    shown = list(troubled[:_MOST_ROWS])
    if room := _MOST_ROWS - len(shown):
        known = {row.test.id for row in shown}
        named = tests.find(session, made_for_run=False, limit=_MOST_ROWS).items
        shown += read_rows(session, [test for test in named if test.id not in known][:room], trends=False)
    return shown


def _needs_attention(row: TestRow) -> bool:
    nobody_runs_it = row.look.state == "waiting" and not (row.test.jobs or row.test.paused)
    return row.look.state in _TROUBLE or (nobody_runs_it and row.test.recurrence == "continue")


def attention(
    in_need: Sequence[WorkerRecord], troubled: Sequence[TestRow], overdue: Sequence[OverdueLine] = ()
) -> list[Attention]:
    """Return what is not as it should be, the gravest first."""
    items: list[Attention] = []
    for worker in in_need:
        items.extend(_of_worker(worker))
    for line in overdue:
        items.append(
            Attention(
                state="stale",
                word="overdue",
                title=line.test_name,
                text=f"{line.name} delivers nothing of what is due since {exact(line.due_at)}, although its worker is connected"
                + (", whose spool does not shrink." if line.spool_stuck_since else "."),
                href=url_for("pages.test", test_id=line.test_id),
            )
        )
    items.extend(
        Attention(
            state=row.look.state,
            word=row.look.word,
            title=row.test.name,
            text=_REASONS.get(
                row.look.state, "No worker suits its selection, or its kind is available on none."
            ),
            href=url_for("pages.test", test_id=row.test.id),
        )
        for row in troubled
    )
    return items


def _of_worker(worker: WorkerRecord) -> list[Attention]:
    if worker.state in ("revoked", "drained"):
        return []  # nobody waits for it
    href = url_for("pages.worker", worker_id=worker.id)
    items: list[Attention] = []
    if worker.state == "offline":
        items.append(
            Attention(
                state="offline",
                word="offline",
                title=worker.name,
                text="Has no session. It measures on by itself and delivers when it is back.",
                href=href,
            )
        )
    if worker.spool_alarm:
        items.append(
            Attention(state="attention", word="spool", title=worker.name, text=worker.spool_alarm, href=href)
        )
    if worker.vantage_alarm and worker.state == "connected":
        items.append(
            Attention(
                state="attention", word="vantage", title=worker.name, text=worker.vantage_alarm, href=href
            )
        )
    if worker.spool_stuck_since:
        items.append(
            Attention(
                state="attention",
                word="spool",
                title=worker.name,
                text=f"Has got rid of none of its {number(worker.spool_records)} stored results since "
                f"{exact(worker.spool_stuck_since)}, although it is connected.",
                href=href,
            )
        )
    if worker.clock_off and worker.clock_offset_ms is not None:
        items.append(
            Attention(
                state="attention",
                word="clock",
                title=worker.name,
                text=f"Its clock is {abs(worker.clock_offset_ms) / 1000:.1f} s away from the controller's.",
                href=href,
                mend="timedatectl set-ntp true",
            )
        )
    items.extend(
        Attention(
            state="attention",
            word="unavailable",
            title=f"{contract.kind(kind).label} on {worker.name}",
            text=str(state.get("reason", "")),
            href=href,
            mend=str(state.get("mend", "")),
        )
        for kind, state in worker.kinds.items()
        if not state.get("available") and kind in contract.kinds()
    )
    return items


def shares(troubled: Sequence[TestRow], figures: Overview, now: dt.datetime) -> list[Share]:
    """Return how many tests are in which state, as parts of one bar: those in trouble as they look, the others as planned."""
    tally = {
        ("ok", "running"): figures.tests_active,
        ("paused", "paused"): figures.tests_paused,
        ("waiting", "not started yet"): figures.tests_waiting,
        ("waiting", "ended"): figures.tests_ended,
    }
    planned = dict(zip(("active", "paused", "waiting", "ended"), list(tally), strict=True))
    for row in troubled:
        tally[planned[row.test.state(now)]] -= 1
        word = {"failed": "failing", "error": "not measured"}.get(row.look.state, row.look.word)
        tally[row.look.state, word] = tally.get((row.look.state, word), 0) + 1
    result: list[Share] = []
    at = 0.0
    total = sum(tally.values())
    for (state, word), count in tally.items():
        if count < 1:
            continue
        width = 100 * count / total
        result.append(
            Share(
                state=state,
                word=word,
                tone=_TONES.get(state, "missed"),
                count=count,
                x=round(at, 3),
                width=round(max(0.4, width - 0.4), 3),
            )
        )
        at += width
    return result


def _rank(look: TestLook) -> int:
    return _TROUBLE.index(look.state) if look.state in _TROUBLE else 9 if look.last_at is None else 5
