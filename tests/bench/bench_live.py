"""From the commit of a result to the open page of its test, while 100 browsers hold their streams open.

One of the browsers is real, chromium on the test's page: a commit has arrived there when the table of the latest results
names the run and the chart has its point, by the clock of the browser. Of the others the streams are played, eight of each
user, as many as one may have. Results are committed and told of as a gateway does it, by its own notices: ten times a
second those of other tests, and from time to time one of the watched test. Ordinary pages are asked one after the other
over one connection, with no stream open and then with all, while the results go on. `BENCH_LIVE_COMMITS` sets how many
commits are watched.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench.swarm.world import World
from bench.viewers.asking import Line, request
from bench.viewers.browser import window
from bench.viewers.committing import Commit, Committing, committing
from bench.viewers.people import log_in, make_users
from bench.viewers.streams import Streams, streaming
from playwright.sync_api import Page
from support.deployment import deployed
from support.surroundings import wait_for

from controller.store.engine import libpq_url
from web.auth.sessions import COOKIE
from web.live import MOST_PER_VIEWER, THREADS_FOR_PAGES

COMMITS = int(os.environ.get("BENCH_LIVE_COMMITS", "40"))
BROWSERS = 100
GOAL_S, GOAL_RATIO = 2.0, 1.5
WORKERS, TESTS = 20, 50
#: How often each ordinary page is asked for.
ASKED = 40
_SEED = 20_260_329
_PATIENCE_S = 60.0
#: Notes in the page when it first shows each run of a test, and how many points its charts have, by the wall clock.
_WATCH = """
() => {
  window.seenRuns = {};
  window.seenPoints = [];
  const look = () => {
    for (const link of document.querySelectorAll('#latest a[href*="/runs/"]')) {
      window.seenRuns[link.getAttribute('href').split('/').at(-1)] ??= Date.now();
    }
    const points = Number(document.querySelector('[data-charts]').dataset.points || 0);
    if (points !== window.seenPoints.at(-1)?.[0]) window.seenPoints.push([points, Date.now()]);
  };
  look();
  new MutationObserver(look).observe(document.querySelector('main'), {
    subtree: true, childList: true, attributes: true, attributeFilter: ['data-points'],
  });
}
"""


def _pages_ms(address: str, cookie: str, paths: Sequence[str]) -> dict[str, float]:
    """Return the median time of each page in milliseconds."""
    line = Line(address)
    headers = {"Accept": "text/html", "Cookie": f"{COOKIE}={cookie}"}
    asked = {path: request(path, address, **headers) for path in paths}
    taken: dict[str, list[float]] = {path: [] for path in paths}
    for _ in range(ASKED):
        for path, question in asked.items():
            taken[path].append(line.answer(question)[0])
    line.close()
    return {path: statistics.median(times[2:]) for path, times in taken.items()}


def _watch(page: Page, commit: Callable[[], None], writing: Committing) -> dict[str, list[float]]:
    """Commit again and again; return the seconds after which table and chart had each run."""
    chance = random.Random(_SEED)
    points = int(page.evaluate("window.seenPoints.at(-1)[0]"))
    for number in range(COMMITS):
        commit()
        wait_for("the commit", lambda number=number: len(writing.commits) > number, _PATIENCE_S)
        # Sometimes hard on the heels of the one before, sometimes long after it.
        page.wait_for_timeout(1000 * chance.uniform(0.2, 4.0))
    page.wait_for_timeout(5000)
    runs, seen_points = page.evaluate("[window.seenRuns, window.seenPoints]")

    def drawn(number: int) -> float:
        return next((at for count, at in seen_points if count >= points + number + 1), float("inf"))

    def waited(commit: Commit, at_ms: float) -> float:
        return at_ms / 1000 - commit.committed_at

    return {
        "table": [waited(made, runs.get(str(made.at_us), float("inf"))) for made in writing.commits],
        "chart": [waited(made, drawn(number)) for number, made in enumerate(writing.commits)],
    }


def _heard(streams: Streams, commits: Sequence[Commit]) -> list[float]:
    """Return after how many seconds each stream has heard of each commit, by that or an earlier event after it."""
    return [
        next((at - made.committed_at for at in of_stream if at >= made.committed_at), float("inf"))
        for of_stream in streams.heard
        for made in commits
    ]


def measure() -> dict[str, Any]:
    """Pages alone first, then with all streams open, and the commits."""
    names = [f"viewer-{number}" for number in range(-(-BROWSERS // MOST_PER_VIEWER))]
    with deployed() as deployment:
        world = World(deployment, [])
        members = deployment.make_workers(WORKERS)
        jobs = deployment.make_jobs([member.worker_id for member in members], tests=TESTS, interval_s=10)
        by_test = deployment.sql("SELECT id, test_id FROM jobs ORDER BY test_id, id")
        watched_job, watched_test = by_test[0]
        make_users(deployment.settings, names, "viewer")
        try:
            _, address = world.web(STREAMSWARM_WEB_THREADS=str(BROWSERS + THREADS_FOR_PAGES))
            cookies = [log_in(address, name) for name in names]
            others = [(job, test) for job, test in by_test if test != watched_test]
            assert len(others) == WORKERS * (TESTS - 1) == sum(map(len, jobs.values())) - WORKERS
            paths = ("/", "/tests", f"/tests/{others[0][1]}", "/workers", "/destinations")
            with committing(libpq_url(deployment.settings), others) as writing:
                time.sleep(5)
                alone = _pages_ms(address, cookies[0], paths)
                held = [cookies[number // MOST_PER_VIEWER] for number in range(BROWSERS - 1)]
                with (
                    streaming(address, held, watched_test) as streams,
                    window(address, cookies[-1]) as page,
                ):
                    wait_for("the streams", lambda: streams.open == len(held), _PATIENCE_S)
                    page.goto(f"/tests/{watched_test}")
                    page.locator("[data-live-state][data-state='live']").wait_for()
                    page.locator("[data-points]").wait_for()
                    page.evaluate(_WATCH)
                    beside = _pages_ms(address, cookies[0], paths)
                    taken = _watch(page, lambda: writing.commit(watched_job, watched_test), writing)
                    heard = _heard(streams, writing.commits)
        finally:
            world.end()
    arrived = [max(pair) for pair in zip(taken["table"], taken["chart"], strict=True)]
    slower = {path: beside[path] / alone[path] for path in paths}
    value, ratio = max(arrived), max(slower.values())
    return {
        "value": round(value, 2),
        "unit": "s from commit to page, at most",
        "peer": "the streams alone, at most",
        "peer_value": round(max(heard), 2),
        "ratio": round(value / max(heard), 2),
        "goal": f"<= {GOAL_S:g} s, ordinary pages <= {GOAL_RATIO:g} times as long",
        "ok": value <= GOAL_S and ratio <= GOAL_RATIO,
        "streams": BROWSERS,
        "commits": len(arrived),
        "median_s": round(statistics.median(arrived), 2),
        "table_s": round(max(taken["table"]), 2),
        "chart_s": round(max(taken["chart"]), 2),
        "heard_median_s": round(statistics.median(heard), 2),
        "page_ratio": round(ratio, 2),
        "slowest_page": max(slower, key=lambda path: slower[path]),
        "pages_ms": round(sum(beside.values()) / len(paths), 1),
        "pages_alone_ms": round(sum(alone.values()) / len(paths), 1),
    }
