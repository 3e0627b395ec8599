"""Ends attempts to rewrite a day whose tables a migration has left behind.

A migration changes a result table and its partitions, not what stands beside a partition while it is rewritten. Late
rows of that day would be refused from then on, as the trigger finds other columns than it brings.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from controller.store import partitions, results
from controller.store.upkeep import rewriting


def end_misfits(connection: Connection) -> list[str]:
    """Undo each attempt that no longer fits its partition, in the transaction of the migration; return the partitions.

    Nothing is lost, as the partition holds every row. An attempt under way is overtaken, and the next begins anew.
    """
    found = connection.execute(
        text(
            "SELECT p.relname AS parent, c.relname AS name FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
            "JOIN pg_inherits i ON i.inhrelid = c.oid JOIN pg_class p ON p.oid = i.inhparent "
            "WHERE t.tgname = 'keep_late' AND p.relname = ANY(:tables) ORDER BY c.relname"
        ),
        {"tables": list(results.all_table_names())},
    ).all()
    ended = []
    for row in found:
        day = rewriting.Day(table=row.parent, day=partitions.day_of(row.name))
        if not rewriting.fits(connection, day):
            rewriting.overtake(connection, day)
            rewriting.clear(connection, day)
            ended.append(day.name)
    return ended
