"""Which days of result tables are to be rewritten in the order of their key."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import Connection, text

from controller.store import partitions, results
from controller.store.upkeep.rewriting import Day

#: So long after its end a day is left alone: spools of a short outage are empty by then.
REST = dt.timedelta(hours=6)
#: Growth of a rewritten day, a share of its size and bytes on top, from which it is rewritten again.
_GROWN, _GROWN_BYTES = 0.1, 1 << 20


def due(connection: Connection) -> list[Day]:
    """Return the days that are over and not in order, the newest first.

    Never rewritten, or much has come since, or an attempt was begun: it is ended however small the day is by now.
    """
    rows = connection.execute(
        text(
            "SELECT p.relname AS parent, c.relname AS name FROM pg_inherits i "
            "JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent "
            "LEFT JOIN rewritten_partitions r ON r.name = c.relname "
            "WHERE p.relname = ANY(:tables) AND NOT i.inhdetachpending "
            "AND (pg_relation_size(c.oid) > CASE WHEN r.rewritten_at IS NULL THEN 0 "
            "         ELSE r.size_bytes * (1 + CAST(:share AS float8)) + :bytes END "
            "     OR EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND tgname = 'keep_late')) "
            "AND to_date(right(c.relname, 10), 'YYYY_MM_DD') + 1 + CAST(:rest AS interval) "
            "    <= now() AT TIME ZONE 'UTC' "
            "ORDER BY right(c.relname, 10) DESC, c.relname"
        ),
        {"tables": list(results.all_table_names()), "share": _GROWN, "bytes": _GROWN_BYTES, "rest": REST},
    ).all()
    return [Day(table=row.parent, day=partitions.day_of(row.name)) for row in rows]
