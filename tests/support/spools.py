"""Spools: results for them, what is in them, and an account in a spool's own file of what it ever held."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from streamswarm.v1 import probe_pb2
from worker.spool import Spool
from worker.spool.file import SpoolFile
from worker.spool.records import Entry

_LEDGER = """
CREATE TABLE ledger (seq INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TRIGGER keep_ledger AFTER INSERT ON record
    BEGIN INSERT INTO ledger (seq, body) VALUES (new.seq, new.body); END;
"""

#: A run: its job and the instant for which it was due.
Key = tuple[int, int]


class Ledger:
    """The account in one spool file. What is deleted from the spool stays in it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def begin(cls, path: Path) -> Ledger:
        """Make an empty spool that keeps the account."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        SpoolFile.open(path).close()
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.executescript(_LEDGER)
        return cls(path)

    def add(self, results: Iterable[probe_pb2.Result]) -> None:
        """Spool results while the daemon is away, as a run whose result waited long has left them."""
        with contextlib.closing(SpoolFile.open(self._path)) as file:
            file.commit([Entry(body=result.SerializeToString()) for result in results])

    def spooled(self) -> Counter[Key]:
        """Every run that was ever spooled, with how often."""
        results = (probe_pb2.Result.FromString(row[0]) for row in self._ask("SELECT body FROM ledger"))
        return Counter((result.job_id, result.scheduled_at_us) for result in results)

    def newest(self) -> int:
        """The largest sequence number so far."""
        return int(self._ask("SELECT coalesce(max(seq), 0) FROM ledger")[0][0])

    def oldest_waiting(self) -> int | None:
        """The smallest sequence number that waits for its acknowledgement; None when the spool is empty."""
        found = self._ask("SELECT min(seq) FROM record")[0][0]
        return None if found is None else int(found)

    def waiting(self) -> int:
        """How many results wait for their acknowledgement."""
        return int(self._ask("SELECT count(*) FROM record")[0][0] or 0)

    def _ask(self, query: str) -> list[tuple[int | bytes | None, ...]]:
        address = f"file:{self._path}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=10)) as connection:
            return connection.execute(query).fetchall()


def result_of(number: int, *, size: int = 0) -> probe_pb2.Result:
    """Return a result of job 1 that was due at that many microseconds, as large as asked for."""
    return probe_pb2.Result(
        job_id=1, scheduled_at_us=number, status=probe_pb2.STATUS_OK, detail_json="x" * size
    )


async def instants_of(spool: Spool) -> list[int]:
    """Return the due instants of the results that wait, in order."""
    records = await spool.read(0, limit=100_000, max_bytes=10**9)
    return [probe_pb2.Result.FromString(record.body).scheduled_at_us for record in records]
