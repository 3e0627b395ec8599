"""Every page with 5,000 workers, 10,000 tests and 50 million results: the server's time, the first paint, and memory while lists scroll.

Pages are those that the routes tell, each with ordinary things, with the largest there are (a test of all workers, the busiest
worker, an operation on a thousand hosts), with a mesh, and with a test of every kind; lists also as they can be searched, filtered
and ordered, and far down. The server's time is that of the whole answer, over one connection that stays open, one request after
the other; the value is the 95th percentile of the page that has the largest. First paint is the median of three loads in
chromium with an empty cache. Down the lists of workers and of tests, at their ends, the browser may hold hardly more than after
a fifth of them, and the server too. The data of charts are asked for by scripts: what they take is told beside.

The peer is a bare Flask view on the same database that draws fifty tests from one statement down an index: what a list costs
without states, trends, roles and all else. `BENCH_PAGES_WORKERS`, `BENCH_PAGES_TESTS` and `BENCH_PAGES_MILLIONS` make a smaller
world.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import sys
import time
from typing import Any

import psutil
from bench.pages.looks import Held, first_paints, scroll
from bench.pages.places import Places, places_of
from bench.pages.visits import Visit, Visitor, chart_paths, every_path, refused, slowest
from bench.pages.world import fill
from bench.swarm.world import World
from bench.viewers.asking import request
from bench.viewers.browser import window
from bench.viewers.people import log_in, make_users
from bench.viewers.serving import bare, wait_answered
from support.deployment import Deployment, deployed
from support.pages import pages_of

from controller.store.engine import libpq_url
from web import create_app

WORKERS = int(os.environ.get("BENCH_PAGES_WORKERS", "5000"))
TESTS = int(os.environ.get("BENCH_PAGES_TESTS", "10000"))
MILLIONS = float(os.environ.get("BENCH_PAGES_MILLIONS", "50"))
GOAL_MS, PAINT_GOAL_MS = 200.0, 1000.0
#: What may be held more at the end of a list than after a fifth of it: a share, and KiB or nodes on top.
GROWTH, NODES_MORE, KIB_MORE = 0.2, 1500, 2048
#: Rows of one page of a list.
_AT_ONCE = 50
_LISTS = {"/workers": WORKERS, "/tests": TESTS}


def _bounded(early: Held, late: Held) -> bool:
    return (
        late.nodes <= early.nodes * (1 + GROWTH) + NODES_MORE
        and late.heap_kib <= early.heap_kib * (1 + GROWTH) + KIB_MORE
        and late.server_kib <= early.server_kib * (1 + GROWTH) + KIB_MORE
    )


def _served(
    deployment: Deployment, places: list[Places], address: str, cookie: str
) -> tuple[list[Visit], list[Visit], list[str]]:
    """Return how long pages took, how long the data of charts, and the paths of whole pages."""
    app = create_app(deployment.settings)
    visitor = Visitor(address, cookie)
    paths = every_path(app, visitor, places)
    _tell(f"{len(paths)} addresses of pages found")
    pages = [visitor.visit(path) for path in paths]
    _tell(f"pages asked for; slowest {slowest(pages)}")
    charts = [visitor.visit(path) for path in chart_paths(app, places, time.time())]
    _tell("data of charts asked for")
    visitor.close()
    whole = dict.fromkeys(path for known in places for path, _ in pages_of(app, known))
    app.extensions["live"].stop()
    app.extensions["streamswarm.engine"].dispose()
    return pages, charts, list(whole)


def _peer(deployment: Deployment) -> Visit:
    with bare("bare_page", libpq_url(deployment.settings), deployment.settings.web_threads) as (_, address):
        wait_answered(address, request("/tests", address))
        visitor = Visitor(address)
        found = visitor.visit("/tests")
        visitor.close()
    return found


def _seen(
    address: str, cookie: str, whole: list[str], server: psutil.Process
) -> tuple[dict[str, float], dict[str, tuple[Held, Held, Held]]]:
    with window(address, cookie) as page:
        painted = first_paints(page, whole)
        _tell("first paints seen")
        held = {path: scroll(page, path, rows // _AT_ONCE, server) for path, rows in _LISTS.items()}
    return painted, held


def _tell(what: str) -> None:
    """Say how far it has come, beside the line of figures."""
    print(f"{time.strftime('%T')} {what}", file=sys.stderr, flush=True)  # noqa: T201


def measure() -> dict[str, Any]:
    """Fill, ask for all pages, look at them, scroll."""
    with deployed() as deployment, contextlib.ExitStack() as stack:
        filled = fill(deployment, workers=WORKERS, tests=TESTS, rows=int(MILLIONS * 1_000_000))
        _tell(f"{filled.rows} results filled in")
        make_users(deployment.settings, ["ada"], "admin")
        places = places_of(deployment, filled)
        ((gib,),) = deployment.sql("SELECT pg_database_size(current_database()) / 2.0 ^ 30")
        world = World(deployment, [])
        stack.callback(world.end)
        server, address = world.web()
        cookie = log_in(address, "ada")
        peer = _peer(deployment)
        pages, charts, whole = _served(deployment, places, address, cookie)
        painted, held = _seen(address, cookie, whole, server)
        assert dt.datetime.now(dt.UTC) < filled.until, (
            "the results have come to their end: pages were not as they are"
        )
    slow, slow_charts = slowest(pages), slowest(charts)
    first_seen = max(painted, key=lambda path: painted[path])
    value, missing = slow[0][2], refused([*pages, *charts])
    bounded = all(_bounded(early, late) for _, early, late in held.values())
    return {
        "value": value,
        "unit": "ms of the server for a page (p95), at most",
        "peer": "a bare Flask view of fifty tests by one statement down an index",
        "peer_value": round(peer.p95_ms, 1),
        "ratio": round(value / peer.p95_ms, 1),
        "goal": f"p95 <= {GOAL_MS:g} ms, first paint <= {PAINT_GOAL_MS:g} ms, memory bounded",
        "ok": value <= GOAL_MS and painted[first_seen] <= PAINT_GOAL_MS and bounded and not missing,
        "slowest_page": slow[0][0],
        "slowest": slow,
        "pages": len(pages),
        "pages_over": sum(visit.p95_ms > GOAL_MS for visit in pages),
        "refused": missing,
        "first_paint_ms": round(painted[first_seen]),
        "first_paint_page": first_seen,
        "painted": len(painted),
        "bounded": bounded,
        "scrolled": {
            path: {
                "loads": late.pages,
                "nodes": [each.nodes for each in steps],
                "heap_kib": [round(each.heap_kib) for each in steps],
                "server_mib": [round(each.server_kib / 1024, 1) for each in steps],
            }
            for path, steps in held.items()
            for late in steps[2:]
        },
        "charts": slow_charts,
        "workers": WORKERS,
        "tests": TESTS,
        "jobs": filled.jobs,
        "rows": filled.rows,
        "partitions": filled.partitions,
        "gib": round(float(gib), 1),
        "fill_s": filled.seconds,
    }
