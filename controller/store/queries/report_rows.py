"""The rows that a report was computed from, as one hash that anybody with the database can compute again.

Each row is one line of JSON: an array of all columns but `detail`, in the order in which `columns_of` names them;
an instant is its microseconds since 1970. Lines are joined by line feeds for each job and day (UTC) and hashed;
the hash of the whole is over the lines `job day hash`. Days keep what PostgreSQL must hold at once small.
"""

from __future__ import annotations

import datetime as dt
import textwrap
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from controller.store import results


@dataclass(frozen=True, kw_only=True)
class Digest:
    """What was used, and how to compute it again."""

    rows: int
    #: SHA-256, hexadecimal.
    sha256: str
    #: The query that gives both, with nothing left to fill in.
    query: str


def columns_of(kind: str) -> tuple[str, ...]:
    """Return the columns that are hashed: the envelope's, then the metrics' in the contract's order."""
    known = results.columns(kind)
    envelope = [column.name for column in known if column.metric is None and column.name != "detail"]
    first = ["job_id", "scheduled_at"]
    rest = sorted(name for name in envelope if name not in first)
    metrics = [column.name for column in known if column.metric is not None]
    return (*first, *rest, *sorted(metrics))


def digest(
    session: Session, kind: str, jobs: Collection[int], *, start: dt.datetime, end: dt.datetime
) -> Digest:
    """Return the hash of the runs of these jobs that were due in [start, end)."""
    query = query_of(kind, jobs, start=start, end=end)
    # A colon that is no parameter: `text` takes it for one unless it is escaped.
    row = session.execute(text(query.replace(":", "\\:"))).one()
    return Digest(rows=row.rows, sha256=row.sha256, query=query)


def query_of(kind: str, jobs: Collection[int], *, start: dt.datetime, end: dt.datetime) -> str:
    """Return the SQL: of our own names, of numbers and of instants alone."""
    cells = textwrap.fill(", ".join(_cell(kind, name) for name in columns_of(kind)), 110)
    cells = textwrap.indent(cells, "    ")
    numbers = ", ".join(str(int(job)) for job in sorted(jobs)) or "NULL"
    return f"""\
WITH used AS (
  SELECT job_id, scheduled_at, (scheduled_at AT TIME ZONE 'UTC')::date AS day, json_build_array(
{cells}
  )::text AS line
  FROM {results.table_name(kind)}
  WHERE job_id IN ({numbers})
    AND scheduled_at >= '{_instant(start)}' AND scheduled_at < '{_instant(end)}'
), days AS (
  SELECT job_id, day, count(*) AS rows,
    encode(sha256(convert_to(string_agg(line, E'\\n' ORDER BY scheduled_at), 'UTF8')), 'hex') AS hash
  FROM used GROUP BY job_id, day
)
SELECT coalesce(sum(rows), 0)::bigint AS rows, encode(sha256(convert_to(coalesce(string_agg(
  job_id || ' ' || to_char(day, 'YYYY-MM-DD') || ' ' || hash, E'\\n' ORDER BY job_id, day), ''), 'UTF8')), 'hex') AS sha256
FROM days"""  # noqa: S608  names from the contract, whole numbers, instants


def _cell(kind: str, name: str) -> str:
    types = {column.name: column.type for column in results.columns(kind)}
    if types[name] == "timestamptz":
        return f"(extract(epoch FROM {name}) * 1000000)::bigint"
    return name


def _instant(value: dt.datetime) -> str:
    return value.astimezone(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
