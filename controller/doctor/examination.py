"""The checks one after another."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from controller.doctor import authority, database, files, ports, processes, workers
from controller.errors import StreamSwarmError
from controller.settings import Settings
from controller.store import schema
from controller.store.engine import make_engine
from controller.store.queries import health
from streamswarm.findings import Finding, unknown, wrong


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield what each check finds; what needs the database is left out, and said to be, while it cannot be used."""
    yield files.settings(settings)
    yield from files.data_folder(settings)
    yield from authority.examine(settings)
    running: tuple[health.ProcessRecord, ...] | None = None
    try:
        engine = make_engine(settings, application="streamswarm-doctor", pool_size=1)
    except StreamSwarmError as error:
        yield wrong("database", error.message, error.mend)
        yield _not_seen()
    else:
        try:
            yield from database.server(engine, settings)
            with Session(engine) as session:
                schema.check_schema(session.connection())
                yield from authority.known(session, settings)
                running = health.processes(session)
                yield from processes.examine(running)
                yield from database.queue(session)
                yield database.partitions_ahead(session.connection(), settings)
                yield from database.roll_ups(session.connection())
                yield database.retention(session.connection())
                yield from workers.examine(session)
        except StreamSwarmError as error:
            yield wrong("database", error.message, error.mend)
            yield _not_seen()
        except OperationalError as error:
            failed = schema.unavailable(engine, error)
            yield wrong("database", failed.message, failed.mend)
            yield _not_seen()
        finally:
            engine.dispose()
    yield from ports.examine(settings, running)


def _not_seen() -> Finding:
    return unknown(
        "processes, queue, partitions, roll-ups, retention, workers",
        "they can be looked at only when the database can be used",
    )
