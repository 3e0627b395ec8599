"""PostgreSQL, the schema, the task queue and the partitions that are made ahead."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session

from controller.settings import Settings
from controller.store import partitions, results, schema
from controller.store.engine import shown_address
from controller.store.queries import tasks
from controller.store.upkeep import believed, standstills
from streamswarm.findings import Finding, ok, wrong

#: A task that is due waits for seconds; one that waits for so long waits for a keeper that does not come.
_PATIENCE_S = 300.0
#: So far removal may be behind: rounds come each hour, and keepers are away for an upgrade or a night.
_BEHIND = dt.timedelta(days=1)
#: Jobs that are told of one by one.
_MOST_JOBS = 5


def server(engine: Engine, settings: Settings) -> Iterator[Finding]:
    """Yield what the server is; raises what `schema.check` raises, and OperationalError."""
    with engine.connect() as connection:
        schema.check_server(connection)
        version = connection.execute(text("SHOW server_version")).scalar_one()
        size = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
        which = "a server by URL" if settings.database_url else "the embedded server"
        yield ok(
            "database",
            f"PostgreSQL {version}, {which}, at {shown_address(engine.url)}; {size / 2**20:,.0f} MiB",
        )
        schema.check_schema(connection)
        yield ok("schema", "it is this release's")


def queue(session: Session) -> Iterator[Finding]:
    """Yield whether the keepers' tasks go on."""
    name = "queue"
    found = tasks.read(session)
    counts = f"{found.due} tasks due, {found.working} under way, {found.failed} failed within a day"
    if found.stalled:
        yield wrong(
            name,
            f"{counts}; {found.stalled} under way belong to keepers that are dead",
            "see that a keeper runs: it takes them up again within seconds",
        )
    elif found.longest_due_s > _PATIENCE_S:
        yield wrong(
            name,
            f"{counts}; the longest ({found.longest_due_name}) has been due for {found.longest_due_s / 60:,.0f} minutes",
            "start a keeper (`streamswarm keeper`), or see its log for what holds it up",
        )
    else:
        yield ok(name, counts)


def roll_ups(connection: Connection) -> Iterator[Finding]:
    """Yield which kinds are not rolled up or thinned out any more."""
    name = "roll-ups"
    still = standstills.read(connection)
    for one in still:
        if one.reason:
            yield wrong(name, one.text, one.mend)
    behind = sorted((one for one in still if not one.reason), key=lambda one: one.since)
    if behind:
        more = f", and {len(behind) - 1} more kinds are behind" if len(behind) > 1 else ""
        yield wrong(name, behind[0].text + more, "see that a keeper runs, and its log for what holds it up")
    jobs = standstills.read_jobs(connection)
    for job in jobs[:_MOST_JOBS]:
        yield wrong(name, job.text, job.mend)
    if len(jobs) > _MOST_JOBS:
        yield wrong(
            name, f"{len(jobs) - _MOST_JOBS} more jobs have stretches that are not rolled up", jobs[0].mend
        )
    if not still and not jobs:
        yield ok(name, "no kind stands still")


def retention(connection: Connection) -> Finding:
    """Say whether removal goes by the time that it is."""
    name = "retention"
    time = believed.read(connection)
    behind = connection.execute(text("SELECT now()")).scalar_one() - time
    if behind > _BEHIND:
        return wrong(
            name,
            f"what is too old goes by {time:%Y-%m-%d %H:%M} UTC, and the database's clock is {behind.days} days ahead of that",
            "set the clocks of database and keepers if they have leapt (NTP); after a time without keepers it catches up by "
            "itself, an hour each hour",
        )
    return ok(name, "what is too old goes by the time that it is")


def partitions_ahead(connection: Connection, settings: Settings) -> Finding:
    """Say whether there are partitions for today and tomorrow; the keepers make them for longer."""
    name = "partitions"
    ahead = min(1, settings.partitions_ahead_days)
    days = partitions.days_around(dt.datetime.now(dt.UTC), ahead=ahead, back=0)
    missing = [each for kind in results.kinds() for each in partitions.missing(connection, kind, days)]
    if missing:
        return wrong(
            name,
            f"{len(missing)} are missing for today or tomorrow, the first {missing[0]}",
            "start a keeper (`streamswarm keeper`): it makes them within a minute",
        )
    return ok(name, f"every result table has its partition until {days[-1]}")
