"""What waits in a spool, read beside the daemon that writes it: nothing is changed and nobody is held up."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from google.protobuf.message import DecodeError

from streamswarm.v1 import probe_pb2
from worker.spool.file import faults
from worker.spool.records import OVERHEAD

_TOTALS = "SELECT count(*), coalesce(sum(length(body)), 0) FROM record"
_OLDEST = "SELECT body FROM record ORDER BY seq LIMIT 1"
_TIME = "SELECT value FROM meta WHERE key = 'time'"
_REFUSAL = "SELECT value FROM meta WHERE key = 'refusal'"


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """What a spool holds."""

    #: Results that are not acknowledged.
    records: int
    #: Their bytes with overhead, as the spool's limit counts them.
    size_bytes: int
    #: For when the oldest was due, microseconds since the epoch; None without one, or when it cannot be read.
    oldest_us: int | None
    #: What `ControllerTime.keep` left; empty for nothing.
    kept_time: str
    #: Why the controller refused the worker last; empty when it has welcomed it since.
    refusal: str = ""


def peek(path: Path) -> Waiting | None:
    """Return what waits, or None where there is no spool yet; raises StorageError or DamageError.

    Without a log beside it the file rests, and is read as one that cannot change: SQLite then makes no files of its own.
    """
    resting = not path.with_name(path.name + "-wal").exists()
    if not path.exists():
        return None
    address = f"file:{quote(str(path))}?mode=ro{'&immutable=1' if resting else ''}"
    with faults(path), contextlib.closing(sqlite3.connect(address, uri=True, timeout=5.0)) as connection:
        connection.text_factory = lambda data: data.decode("ascii", "replace")
        connection.execute("BEGIN")  # one moment for all of it
        records, size = connection.execute(_TOTALS).fetchone()
        oldest = connection.execute(_OLDEST).fetchone()
        kept = connection.execute(_TIME).fetchone()
        refusal = connection.execute(_REFUSAL).fetchone()
    return Waiting(
        records=records,
        size_bytes=size + records * OVERHEAD,
        oldest_us=None if oldest is None else _due_us(oldest[0]),
        kept_time="" if kept is None else str(kept[0]),
        refusal="" if refusal is None else str(refusal[0]),
    )


def _due_us(body: object) -> int | None:
    try:
        return probe_pb2.Result.FromString(body).scheduled_at_us if isinstance(body, bytes) else None
    except DecodeError:
        return None
