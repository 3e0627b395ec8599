"""The spool's file: one SQLite database, durable at every commit, distrustful of its own bytes.

Everything here blocks and runs in the spool's own thread. Faults are of two sorts: `StorageError`, the disk does
not take it now (full, read-only), to be tried again; and `DamageError`, the bytes are not what was written.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from worker.errors import StorageError
from worker.files import sync_folder
from worker.spool.pages import PAGE
from worker.spool.records import OVERHEAD, Entry, Gap, Record
from worker.spool.wal_check import committed_frames
from worker.used import Used

_VERSION = 3
_SCHEMA = """
CREATE TABLE record (seq INTEGER PRIMARY KEY AUTOINCREMENT, crc INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE used (job_id INTEGER PRIMARY KEY, ranges TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE gap (job_id INTEGER PRIMARY KEY, count INTEGER NOT NULL, last_us INTEGER NOT NULL,
                  crc INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID;
"""
_UNREADABLE = "disk i/o error"
#: What SQLite says when the system, not the file's content, is at fault.
_SYSTEM_FAULTS = (
    "database or disk is full",
    _UNREADABLE,
    "unable to open database file",
    "database is locked",
    "out of memory",
)


class DamageError(Exception):
    """The file's bytes are not what was written."""


class SpoolFile:
    """An open spool database."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        #: Random for each opening. A disk that was restored from a copy gives out numbers again that the controller
        #: knows for other results; nothing in the file can tell, so its records are always those of another spool.
        self.spool_id = secrets.token_hex(16)
        #: The sequence number that the next record gets.
        self.next_seq = 1
        #: Damage that cost records but not the file; for people.
        self.damage = ""

    @classmethod
    def open(cls, path: Path) -> SpoolFile:
        """Open or make the file; raises StorageError or DamageError."""
        with faults(path):
            expected = committed_frames(path.with_name(path.name + "-wal"))
            there = path.exists()
            empty = not there or not path.stat().st_size
        if empty and expected:  # SQLite would delete it
            raise DamageError("there is a log without its file")
        if not there:
            _make(path)
        with faults(path):
            spool = cls(_connect(path), path)
        try:
            with faults(path):
                spool._check(expected)
                spool._read_state()
        except BaseException:
            spool._connection.close()
            raise
        return spool

    def _check(self, expected_frames: int) -> None:
        run = self._connection.execute
        run("PRAGMA wal_autocheckpoint = 0")  # or SQLite folds the log in before it is counted
        version = run("PRAGMA user_version").fetchone()[0]
        if version != _VERSION:
            raise DamageError(f"it has version {version} where {_VERSION} is written")
        found = run("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
        if run("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise DamageError("it cannot be opened with a write-ahead log")
        run("PRAGMA wal_autocheckpoint = 1000")
        problem = run("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise DamageError(str(problem))
        if expected_frames > max(found, 0):
            self.damage = (
                f"the log of {self._path} was damaged; the last results before the stop may be missing"
            )

    def _read_state(self) -> None:
        tail = self.recall("tail") or ""
        if not tail.isdecimal():
            raise DamageError("its end mark cannot be read")
        row = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'record'").fetchone()
        newest = self._connection.execute("SELECT max(seq) FROM record").fetchone()[0]
        if (row[0] if row else 0) != int(tail) or (newest or 0) > int(tail):
            raise DamageError("its sequence numbers do not agree with its end mark")
        self.next_seq = int(tail) + 1

    # -- records ---------------------------------------------------------------------------------------------

    def commit(self, entries: Sequence[Entry], gaps: Sequence[Gap] = (), *, delete_to: int = 0) -> list[int]:
        """Write records and gaps and delete acknowledged records, all durable on return; returns the new seqs."""
        with faults(self._path), self._transaction():
            if delete_to:
                self._connection.execute("DELETE FROM record WHERE seq <= ?", (delete_to,))
            seqs = [self._insert(entry) for entry in entries]
            for gap in gaps:
                self._insert_gap(gap)
            if seqs:
                self._set_meta("tail", str(seqs[-1]))
        if seqs:
            self.next_seq = seqs[-1] + 1
        return seqs

    def settle_gaps(self, entries: Sequence[Entry]) -> list[int]:
        """Replace all gaps by the records that tell of them."""
        with faults(self._path), self._transaction():
            self._connection.execute("DELETE FROM gap")
            seqs = [self._insert(entry) for entry in entries]
            if seqs:
                self._set_meta("tail", str(seqs[-1]))
        if seqs:
            self.next_seq = seqs[-1] + 1
        return seqs

    def _insert(self, entry: Entry) -> int:
        seq = self._connection.execute(
            "INSERT INTO record (crc, body) VALUES (?, ?)", (zlib.crc32(entry.body), entry.body)
        ).lastrowid
        assert seq is not None  # noqa: S101  an INSERT always has one
        if entry.used is not None:
            self._insert_used(entry.job_id, entry.used)
        return seq

    def _insert_gap(self, gap: Gap) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO gap (job_id, count, last_us, crc, body) VALUES (?, ?, ?, ?, ?)",
            (gap.job_id, gap.count, gap.last_us, _gap_crc(gap), gap.body),
        )

    def _insert_used(self, job_id: int, used: Used) -> None:
        values = (job_id, json.dumps(used.ranges))
        self._connection.execute(
            "INSERT OR REPLACE INTO used (job_id, ranges, crc) VALUES (?, ?, ?)", (*values, _crc(*values))
        )

    def read(self, after_seq: int, *, limit: int, max_bytes: int) -> list[Record]:
        """Return the next records in order, at least one if there is any; damaged ones are deleted and told of."""
        records: list[Record] = []
        damaged: list[int] = []
        size = 0
        with faults(self._path):
            cursor = self._connection.execute(
                "SELECT seq, crc, body FROM record WHERE seq > ? ORDER BY seq", (after_seq,)
            )
            with contextlib.closing(cursor):
                for seq, crc, body in cursor:
                    if len(records) == limit:
                        break
                    if not isinstance(body, bytes) or zlib.crc32(body) != crc:
                        damaged.append(seq)
                        continue
                    size += len(body)
                    if records and size > max_bytes:
                        break
                    records.append(Record(seq, body))
            if damaged:
                with self._transaction():
                    self._connection.executemany(
                        "DELETE FROM record WHERE seq = ?", [(seq,) for seq in damaged]
                    )
                self.damage = (
                    f"{len(damaged)} damaged results in {self._path} were lost (first: number {damaged[0]})"
                )
        return records

    def totals(self) -> tuple[int, int, int]:
        """Return the number of records, their bytes with overhead, and the first sequence number (0 for none)."""
        with faults(self._path):
            count, size, first = self._connection.execute(
                "SELECT count(*), coalesce(sum(length(body)), 0), coalesce(min(seq), 0) FROM record"
            ).fetchone()
        return count, size + count * OVERHEAD, first

    def size_to(self, seq: int) -> tuple[int, int]:
        """Return the number and bytes of the records up to a sequence number."""
        with faults(self._path):
            count, size = self._connection.execute(
                "SELECT count(*), coalesce(sum(length(body)), 0) FROM record WHERE seq <= ?", (seq,)
            ).fetchone()
        return count, size + count * OVERHEAD

    # -- gaps, used instants, small values -------------------------------------------------------------------

    def gaps(self) -> list[Gap]:
        """Return the gaps that have not become records yet."""
        with faults(self._path):
            rows = self._connection.execute("SELECT job_id, count, last_us, crc, body FROM gap").fetchall()
        found = [(Gap(job_id, count, last_us, body), crc) for job_id, count, last_us, crc, body in rows]
        return [gap for gap, crc in found if isinstance(gap.body, bytes) and _gap_crc(gap) == crc]

    def used(self) -> dict[int, Used]:
        """Return the used instants of every job."""
        with faults(self._path):
            rows = self._connection.execute("SELECT job_id, ranges, crc FROM used").fetchall()
        return {
            job_id: Used(tuple((from_us, to_us) for from_us, to_us in json.loads(ranges)))
            for job_id, ranges, crc in rows
            if _crc(job_id, ranges) == crc
        }

    def forget_used(self, *, keep: frozenset[int], before_us: int) -> None:
        """Forget the used instants of jobs that are gone and whose last run lies before an instant."""
        gone = [
            (job_id,)
            for job_id, used in self.used().items()
            if job_id not in keep and (used.last_us is None or used.last_us < before_us)
        ]
        if gone:
            with faults(self._path), self._transaction():
                self._connection.executemany("DELETE FROM used WHERE job_id = ?", gone)

    def remember(self, key: str, value: str) -> None:
        """Keep a small value."""
        with faults(self._path), self._transaction():
            self._set_meta(key, value)

    def recall(self, key: str) -> str | None:
        """Return a small value, or None when it is not there or damaged."""
        with faults(self._path):
            row = self._connection.execute("SELECT value, crc FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row is not None and _crc(key, row[0]) == row[1] else None

    def values(self) -> dict[str, str]:
        """Return all small values that are as they were written."""
        with faults(self._path):
            rows = self._connection.execute("SELECT key, value, crc FROM meta").fetchall()
        return {key: value for key, value, crc in rows if _crc(key, value) == crc}

    def adopt(self, gaps: Sequence[Gap], used: Mapping[int, Used], values: Mapping[str, str]) -> None:
        """Take over what another file holds beside its records."""
        with faults(self._path), self._transaction():
            for gap in gaps:
                self._insert_gap(gap)
            for job_id, instants in used.items():
                self._insert_used(job_id, instants)
            for key, value in values.items():
                if key != "tail":
                    self._set_meta(key, value)

    def renew_id(self) -> None:
        """Give the spool a new random number: the controller then takes it for one that it has not seen."""
        self.spool_id = secrets.token_hex(16)

    def fold(self) -> None:
        """Move all that is in the log into the file itself; raises StorageError when that is not done to its end."""
        with faults(self._path):
            if self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise sqlite3.OperationalError("database is locked")

    def close(self) -> None:
        """Close the file; the log is folded in where the disk allows it, and read by the next to open it otherwise."""
        self._connection.close()

    def _set_meta(self, key: str, value: str) -> None:
        _set_meta(self._connection, key, value)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(str(path), isolation_level=None, check_same_thread=False, timeout=5.0)
    # Every text has a check sum, which tells whether it is what was written; reading a damaged one must not fail.
    connection.text_factory = lambda data: data.decode("ascii", "replace")
    try:
        connection.execute("PRAGMA synchronous = FULL")
    except (
        BaseException
    ):  # it reads the file; left open, the connection would keep others out until it is collected
        connection.close()
        raise
    return connection


def _make(path: Path) -> None:
    """Make an empty spool under another name and rename it, so that a file without content is always damage."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with faults(path):
            for left in path.parent.glob(f".{path.name}.*"):  # by a stop in this very place
                left.unlink()
            with contextlib.closing(_connect(temporary)) as connection:
                connection.execute(f"PRAGMA page_size = {PAGE}")
                for statement in _SCHEMA.strip().split(";\n"):
                    connection.execute(statement.rstrip(";"))
                connection.execute(f"PRAGMA user_version = {_VERSION}")
                _set_meta(connection, "tail", "0")
                connection.execute("PRAGMA journal_mode = WAL").fetchall()
            temporary.replace(path)
            sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):  # renamed already, or in a folder that forbids more than this
            temporary.unlink()


def _set_meta(connection: sqlite3.Connection, key: str, value: str) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO meta (key, value, crc) VALUES (?, ?, ?)", (key, value, _crc(key, value))
    )


def _crc(*values: object) -> int:
    return zlib.crc32(repr(values).encode())


def _gap_crc(gap: Gap) -> int:
    return zlib.crc32(gap.body, _crc(gap.job_id, gap.count, gap.last_us))


@contextlib.contextmanager
def faults(path: Path) -> Iterator[None]:
    """Turn what SQLite and the system raise into StorageError or DamageError."""
    try:
        yield
    except sqlite3.OperationalError as error:
        text = str(error).lower()
        read_only = "readonly" in text and not os.access(path, os.W_OK)
        if read_only or any(fault in text for fault in _SYSTEM_FAULTS):
            raise _cannot_write(path, error) from error
        raise DamageError(str(error)) from error
    except (
        sqlite3.Error,
        OverflowError,
        UnicodeError,
    ) as error:  # a damaged name may stand in what SQLite says
        raise DamageError(str(error)) from error
    except OSError as error:
        raise _cannot_write(path, error) from error


def is_unreadable(error: StorageError) -> bool:
    """Whether the disk cannot read or write some place, now or ever."""
    return _UNREADABLE in str(error.__cause__).lower()


def _cannot_write(path: Path, error: Exception) -> StorageError:
    return StorageError(
        f"the spool {path} cannot be written: {error}",
        mend=f"make room or mend the rights on {path.parent}; results wait meanwhile",
    )
