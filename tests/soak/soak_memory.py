"""An hour with 200 workers and somebody who looks at pages: memory of gateway, keeper, dashboard and a worker.

SOAK_SECONDS sets another length. The first sixth is warm-up, in which whatever happens again and again happens once: all
workers begin another session too, as they do every 40 minutes or so, where the C library finds out how much it must keep
between the pieces. The growth of each process is a line fitted robustly (Theil and Sen: the median of all slopes) through
what comes after, and must stay below 5 %. Meanwhile 99 of 100 batches must be acknowledged within a second: of ten workers
that share a process, as 190 in one hold each other up. The series is kept in SOAK_FOLDER (default: build/soak) as
memory.json.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import secrets
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy.orm import Session
from support.crowd import Crowd, crowd
from support.installation import Installation, installation
from support.killing import tell
from support.surroundings import wait_for

from controller.store.commands import users
from controller.store.commands.audit import SYSTEM

WORKERS = 200
#: Those among them whose acknowledgements count; the others' are told beside.
HEARD = 10
#: Runs of each worker: 4 every 5 s, so 160 results a second together.
DESTINATIONS, INTERVAL_S = 4, 5.0
SAMPLE_S = 5.0
MOST_GROWTH_PCT = 5.0
MOST_P99_MS = 1_000.0


def measure() -> dict[str, Any]:
    """Sample for the whole time, then fit."""
    seconds = float(os.environ.get("SOAK_SECONDS", "3600"))
    with (
        installation(gateways=1) as made,
        crowd(made, WORKERS - HEARD) as people,
        crowd(made, HEARD, "heard") as heard,
    ):
        for part in (*made.gateways, made.keeper, made.web, made.worker("watched")):
            part.start()
        wait_for(
            "all workers connected",
            lambda: made.sql("SELECT count(*) FROM workers WHERE gateway_id IS NOT NULL") == [(WORKERS + 1,)],
            120,
        )  # fmt: skip
        made.make_test(destinations_count=DESTINATIONS, interval_s=INTERVAL_S)
        series, too_slow = sample(made, seconds, (people, heard))
        waits, others = waits_ms(heard), waits_ms(people)
        ((stored,),) = made.sql("SELECT count(*) FROM result_tcp")
        ((sessions,),) = made.sql("SELECT min(session_epoch) FROM workers WHERE name <> 'watched'")
        failures = {part.name: part.failures for part in made.all_parts() if part.failures}
    keep(series)
    tell(f"the series is in {_path()}")
    p99_ms = waits[int(len(waits) * 0.99)]
    growth = {name: round(growth_pct(points), 2) for name, points in series.items()}
    return {
        "seconds": seconds,
        "workers": WORKERS,
        "results": stored,
        "sessions": sessions,
        "growth_pct": growth,
        "rss_mib": {name: round(points[-1][1] / 2**20, 1) for name, points in series.items()},
        "ack_p50_ms": waits[len(waits) // 2],
        "ack_p99_ms": p99_ms,
        "ack_max_ms": waits[-1],
        "batches": len(waits),
        "others_ack_p99_ms": others[int(len(others) * 0.99)],
        "pages_too_slow": too_slow,
        "ended_by_themselves": failures,
        "ok": max(growth.values()) < MOST_GROWTH_PCT
        and p99_ms < MOST_P99_MS
        and sessions > 1
        and not failures,
    }


def waits_ms(people: Crowd) -> list[float]:
    """Return how long the batches of some workers waited for their acknowledgement, the shortest first."""
    return sorted(wait for line in people.said() for wait in line["waits_ms"])


def sample(
    made: Installation, seconds: float, crowds: Iterable[Crowd]
) -> tuple[dict[str, list[tuple[float, int]]], int]:
    """Return the resident size of each process over time, in bytes, while somebody looks at pages.

    And how often a page was refused since the database took too long for it: a busy machine costs pages, but no hour.
    Early in the warm-up the crowds begin other sessions.
    """
    watched = {
        "gateway": made.gateways[0],
        "keeper": made.keeper,
        "web": made.web,
        "worker": made.workers[0],
    }
    series: dict[str, list[tuple[float, int]]] = {name: [] for name in watched}
    looks = _looks(made)
    too_slow = 0
    before_turn = list(crowds)
    started = time.monotonic()
    with _visitor(made) as client:
        while (elapsed := time.monotonic() - started) < seconds:
            while before_turn and elapsed > seconds / 20:
                before_turn.pop().turn()
            for name, part in watched.items():
                series[name].append((elapsed, _resident(part.process, tree=name == "web")))
            for _ in range(int(SAMPLE_S * 2)):
                reply = client.get(next(looks)())
                too_slow += reply.status_code == 503
                assert reply.status_code in (200, 503), (reply.url, reply.status_code, reply.text[:300])
                time.sleep(0.5)
            if len(series["gateway"]) % 60 == 0:
                keep(series)
                shown = {name: f"{points[-1][1] / 2**20:.1f}" for name, points in series.items()}
                tell(f"{elapsed:.0f} s: MiB {shown}")
    return series, too_slow


def growth_pct(points: list[tuple[float, int]]) -> float:
    """By how much the line through the points after the warm-up rises, in percent of where it begins."""
    length = points[-1][0]
    warm = [(at, size) for at, size in points if at >= length / 6]
    slope = statistics.median((b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.combinations(warm, 2))
    start = statistics.median(size - slope * (at - warm[0][0]) for at, size in warm)
    return 100 * slope * (warm[-1][0] - warm[0][0]) / start


def keep(series: dict[str, list[tuple[float, int]]]) -> None:
    """Keep the series for those who want to look at it."""
    _path().parent.mkdir(parents=True, exist_ok=True)
    _path().write_text(json.dumps(series))


def _path() -> Path:
    return Path(os.environ.get("SOAK_FOLDER", "build/soak")) / "memory.json"


def _looks(made: Installation) -> Iterator[Callable[[], str]]:
    """Yield what to look at, for ever: pages, what they fetch by themselves, and the REST API."""
    worker = made.sql("SELECT id FROM workers ORDER BY name LIMIT 1")[0][0]
    fixed = ("/", "/overview/live", "/tests", "/tests?q=t&kind=tcp", "/tests/1", "/tests/1/latest",
        "/tests/1/diagnosis", "/workers", f"/workers/{worker}", "/destinations", "/fleet", "/reports",
        "/help/kinds/tcp", "/api/v1/tests", "/api/v1/workers", "/api/v1/tests/1/results?limit=50",
        "/api/v1/destinations", "/api/v1/health")  # fmt: skip

    def chart() -> str:
        now = time.time() * 1000
        return f"/tests/1/chart.json?from={now - 1_800_000:.0f}&to={now:.0f}"

    newest = (
        "SELECT job_id, (extract(epoch FROM scheduled_at) * 1000000)::bigint FROM result_tcp "
        "WHERE scheduled_at > now() - interval '1 minute' LIMIT 1"
    )
    wait_for("the first result", lambda: bool(made.sql(newest)), 60)

    def run() -> str:
        ((job, at_us),) = made.sql(newest)
        return f"/tests/1/jobs/{job}/runs/{at_us}"

    return itertools.cycle((chart, run, *(lambda path=path: path for path in fixed)))


@contextmanager
def _visitor(made: Installation) -> Iterator[httpx.Client]:
    """Log in as a viewer; the session also opens the REST API."""
    wait_for("the dashboard", lambda: _answers(made), 60)
    values = {"name": "visitor", "password": secrets.token_urlsafe(12), "role": "viewer"}
    with Session(made.engine) as session, session.begin():
        users.create(session, values, actor=SYSTEM)
    with httpx.Client(
        base_url=f"http://{made.settings.web_listen}",
        # What a person opens is activity, without which the session would end.
        headers={"Accept": "text/html, application/json"},
        trust_env=False,
        timeout=30,
    ) as client:
        found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', client.get("/login").text)
        assert found is not None
        reply = client.post("/login", data=values | {"csrf_token": found.group(1)})
        assert reply.is_redirect, (reply.status_code, reply.text[:300])
        yield client


def _answers(made: Installation) -> bool:
    try:
        return (
            httpx.get(f"http://{made.settings.web_listen}/api/v1/health", trust_env=False).status_code < 600
        )
    except httpx.TransportError:
        return False


def _resident(process: psutil.Process, *, tree: bool) -> int:
    found = [process, *process.children(recursive=True)] if tree else [process]
    return sum(each.memory_info().rss for each in found)
