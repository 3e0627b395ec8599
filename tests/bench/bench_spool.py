"""Results that the spool makes durable in a second, beside plain SQLite with the same bytes and as many rows a commit.

What the spool adds (checksums, accounts of used instants, a future for each result) stays within a small factor of the
bare disk work: 55,000 results a second, 0.18 of plain SQLite, when this was written.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

from streamswarm.v1 import probe_pb2
from worker.clock import SystemClock
from worker.spool import Spool

ROWS = 20_000
TOGETHER = 500
GOAL = 0.15


def result(number: int) -> probe_pb2.Result:
    """A `ping` result with every metric of the kind that an ordinary run has."""
    made = probe_pb2.Result(
        job_id=number % 100,
        job_version=1,
        scheduled_at_us=1_760_000_000_000_000 + number,
        status=probe_pb2.STATUS_OK,
    )
    made.started_at_us, made.duration_ms = made.scheduled_at_us + 150, 402.5
    ping = made.ping
    ping.packets_sent = ping.packets_received = 3
    ping.loss_pct, ping.rtt_min_ms, ping.rtt_avg_ms, ping.rtt_median_ms, ping.rtt_max_ms = (
        0.0,
        10.1,
        10.4,
        10.3,
        10.8,
    )
    ping.rtt_stddev_ms, ping.ipdv_avg_ms, ping.rfc3550_jitter_ms = 0.3, 0.4, 0.02
    ping.duplicates = ping.reordered = ping.late = ping.icmp_errors = 0
    ping.reply_ttl, ping.kernel_timestamps, ping.bytes_sent, ping.bytes_received = 57, True, 252, 252
    return made


async def ours(folder: Path, results: list[probe_pb2.Result]) -> float:
    """Rows a second through the spool, `TOGETHER` appended at a time."""
    spool = Spool(folder / "spool.sqlite", clock=SystemClock())
    await spool.open()
    started = time.perf_counter()
    for start in range(0, len(results), TOGETHER):
        await asyncio.gather(*(spool.append(item) for item in results[start : start + TOGETHER]))
    elapsed = time.perf_counter() - started
    await spool.close()
    return len(results) / elapsed


def plain(folder: Path, results: list[probe_pb2.Result]) -> float:
    """Rows a second by `executemany` with the same durability."""
    database = sqlite3.connect(folder / "plain.sqlite")
    database.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
        "CREATE TABLE record (seq INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL)"
    )
    started = time.perf_counter()
    for start in range(0, len(results), TOGETHER):
        rows = [(item.SerializeToString(),) for item in results[start : start + TOGETHER]]
        with database:
            database.executemany("INSERT INTO record (body) VALUES (?)", rows)
    elapsed = time.perf_counter() - started
    database.close()
    return len(results) / elapsed


def measure() -> dict[str, Any]:
    """Best of three of each, in turns."""
    results = [result(number) for number in range(ROWS)]
    value = peer = 0.0
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            peer = max(peer, plain(Path(folder), results))
            value = max(value, asyncio.run(ours(Path(folder), results)))
    ratio = value / peer
    return {
        "value": round(value),
        "unit": "results/s",
        "peer": "sqlite3 executemany",
        "peer_value": round(peer),
        "ratio": round(ratio, 3),
        "goal": f">= {GOAL}",
        "ok": ratio >= GOAL,
    }
