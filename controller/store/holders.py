"""Who holds tables of the database in open transactions: told where locks on them were not had."""

from __future__ import annotations

from sqlalchemy import Engine, text

#: More holders than this are counted, not named.
_NAMED = 3


def held_by(engine: Engine) -> str:
    """Return which tables are held by whose open transactions, the oldest first; empty when nobody holds any now."""
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT a.pid, coalesce(nullif(a.application_name, ''), 'unnamed') AS program, a.usename AS role, "
                "extract(epoch FROM clock_timestamp() - a.xact_start)::int AS since_s, "
                "array_agg(DISTINCT c.relname::text ORDER BY c.relname::text) AS tables "
                "FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_class c ON c.oid = l.relation "
                "WHERE l.granted AND l.locktype = 'relation' AND a.pid <> pg_backend_pid() "
                "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
                "AND c.relkind IN ('r', 'p') AND c.relnamespace <> 'pg_catalog'::regnamespace "
                # A partition is named only where its parent is not held as well.
                "AND NOT EXISTS (SELECT FROM pg_inherits i JOIN pg_locks o ON o.relation = i.inhparent "
                "WHERE i.inhrelid = c.oid AND o.pid = l.pid AND o.granted) "
                "GROUP BY a.pid, a.application_name, a.usename, a.xact_start ORDER BY a.xact_start NULLS LAST, a.pid"
            )
        ).all()
    shown = [
        f"{_shortened(row.tables)} held by process {row.pid} ({row.program}, user {row.role})"
        + ("" if row.since_s is None else f" for {row.since_s} s")
        for row in rows[:_NAMED]
    ]
    more = len(rows) - _NAMED
    return "; ".join([*shown, f"and {more} more"] if more > 0 else shown)


def _shortened(tables: list[str]) -> str:
    more = len(tables) - _NAMED
    return ", ".join(tables[:_NAMED]) + (f" and {more} more" if more > 0 else "")
