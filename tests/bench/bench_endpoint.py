"""`GET /api/v1/destinations/<id>` with a token, beside a bare Flask view through psycopg2 with the same two statements.

Both are one process of gunicorn with the same number of threads, on one database, and are asked in turns over eight
connections that stay open, from this process. The product does what it always does: role, rate limit, headers, ETag. Its
limit is 600 calls a minute for each token, so there are many tokens, asked with in turn. `BENCH_ENDPOINT_S` sets the
seconds of a round.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import secrets
import statistics
from collections.abc import Iterator
from typing import Any

import psutil
import psycopg
from bench.swarm.world import World
from bench.viewers.asking import Asked, ask, request
from bench.viewers.serving import bare, wait_answered
from support.deployment import deployed

from controller.store.commands.tokens import PREFIX
from controller.store.engine import libpq_url

SECONDS = float(os.environ.get("BENCH_ENDPOINT_S", "5"))
ROUNDS = 6
CONNECTIONS = 8
GOAL = 0.7
DESTINATIONS, TOKENS = 1000, 600


def _fill(url: str) -> list[str]:
    """Make destinations, tests of them, a user and tokens of theirs; return the tokens."""
    made = [PREFIX + secrets.token_urlsafe(32) for _ in range(TOKENS)]
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO destinations (name, address, tags) "
            "SELECT 'target-' || n, '192.0.2.' || n %% 250 + 1, '[\"dc1\", \"edge\"]' FROM generate_series(1, %s) n",
            (DESTINATIONS,),
        )
        connection.execute(
            "WITH t AS (INSERT INTO tests (name, kind, spec, interval_s) "
            "SELECT 'test-' || id, 'ping', '{}', 60 FROM destinations RETURNING id, name) "
            "INSERT INTO test_destinations (test_id, destination_id) SELECT id, substr(name, 6)::bigint FROM t"
        )
        connection.execute(
            "INSERT INTO users (name, role, password_hash) VALUES ('ada', 'operator', 'nobody logs in')"
        )
        connection.cursor().executemany(
            "INSERT INTO api_tokens (name, scope, token_hash, prefix, user_id) "
            "SELECT %s, 'viewer', %s, %s, id FROM users WHERE name = 'ada'",
            [
                (f"token-{number}", hashlib.sha256(token.encode()).digest(), token[:10])
                for number, token in enumerate(made)
            ],
        )
        connection.execute("ANALYZE")
    return made


def _cpu_s(server: psutil.Process) -> float:
    used = [process.cpu_times() for process in (server, *server.children(recursive=True))]
    return float(sum(times.user + times.system for times in used))


def _measure(
    sides: dict[str, tuple[psutil.Process, str]], questions: dict[str, Iterator[bytes]]
) -> dict[str, dict[str, float]]:
    """Ask both in turns; return the medians of the rounds by side."""
    found: dict[str, list[tuple[Asked, float]]] = {side: [] for side in sides}
    for number in range(ROUNDS + 1):
        for side in sides if number % 2 else reversed(sides):
            server, address = sides[side]
            before = _cpu_s(server)
            asked = ask(address, questions[side], connections=CONNECTIONS, seconds=SECONDS)
            if number:  # the first round warms up
                found[side].append((asked, (_cpu_s(server) - before) * 1000 / len(asked.taken_ms)))
    return {
        side: {
            "per_s": statistics.median(asked.per_s for asked, _ in rounds),
            "cpu_ms": statistics.median(cpu_ms for _, cpu_ms in rounds),
            "p50_ms": statistics.median(statistics.median(asked.taken_ms) for asked, _ in rounds),
            "p99_ms": statistics.median(
                statistics.quantiles(asked.taken_ms, n=100)[98] for asked, _ in rounds
            ),
        }
        for side, rounds in found.items()
    }


def measure() -> dict[str, Any]:
    """Both servers beside each other, asked in turns."""
    with deployed() as deployment, contextlib.ExitStack() as stack:
        url = libpq_url(deployment.settings)
        made = _fill(url)
        world = World(deployment, [])
        stack.callback(world.end)
        ours, address = world.web()
        threads = deployment.settings.web_threads
        peer_process, peer_address = stack.enter_context(bare("bare", url, threads))
        sides = {"ours": (ours, address), "peer": (peer_process, peer_address)}
        questions = {
            side: itertools.cycle(
                request(
                    f"/api/v1/destinations/{1 + number * 7 % DESTINATIONS}",
                    where,
                    Authorization=f"Bearer {token}",
                )
                for number, token in enumerate(made)
            )
            for side, (_, where) in sides.items()
        }
        for side, (_, where) in sides.items():
            wait_answered(where, next(questions[side]))
        found = _measure(sides, questions)
    value, peer = found["ours"], found["peer"]
    ratio = value["per_s"] / peer["per_s"]
    return {
        "value": round(value["per_s"]),
        "unit": "answers/s",
        "peer": "a bare Flask view with the same two statements through psycopg2",
        "peer_value": round(peer["per_s"]),
        "ratio": round(ratio, 2),
        "goal": f">= {GOAL}",
        "ok": ratio >= GOAL,
        "threads": threads,
        "connections": CONNECTIONS,
        "rounds": ROUNDS,
        **{f"{name}": round(value[name], 2) for name in ("cpu_ms", "p50_ms", "p99_ms")},
        **{f"peer_{name}": round(peer[name], 2) for name in ("cpu_ms", "p50_ms", "p99_ms")},
    }
