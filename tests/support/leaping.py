"""A database whose clock has leapt: its `now()` and `clock_timestamp()` tell another time in sessions that begin from now on."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import Engine, text


def leap(engine: Engine, ahead: dt.timedelta) -> None:
    """Set the database's clock so far ahead of what it is, or back to it with 0, for what is asked from now on."""
    with engine.begin() as connection:
        database = connection.execute(text("SELECT current_database()")).scalar_one()
        for name in ("now", "clock_timestamp"):
            connection.execute(
                text(
                    f"CREATE OR REPLACE FUNCTION public.{name}() RETURNS timestamptz LANGUAGE sql STABLE AS "
                    f"'SELECT pg_catalog.{name}() + interval ''{ahead.total_seconds()} s'''"
                )
            )
        # What is built in is found first unless the path names it.
        connection.execute(text(f'ALTER DATABASE "{database}" SET search_path = public, pg_catalog'))
    engine.dispose()
