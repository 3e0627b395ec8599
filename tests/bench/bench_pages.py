"""Every page of an installation with 5,000 workers, 10,000 tests and 50 million results.

Asked are all pages that the application knows, by its own map of them, each with many ids that there are and in the forms
in which it is asked for: lists from their beginning, far down and searched, charts over short and long ranges. A page that
takes an id of a sort that is not made here fails the benchmark. Counted is the time from the request to the whole answer
over one connection on this machine, after each page was asked for once; that of the slowest page counts. The peer are the
same pages of a small installation.

Then a real browser opens each page that it can open, and scrolls lists down: rows come, and what the page holds may not grow.
`BENCH_PAGES_WORKERS`, `BENCH_PAGES_TESTS`, `BENCH_PAGES_RESULTS` set other sizes; 50 million results take about 12 GB.
"""

from __future__ import annotations

import datetime as dt
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from bench.swarm.world import World
from bench.viewers.asking import Line, request
from bench.viewers.browser import held, window
from bench.viewers.installation import Made, Size, fill
from bench.viewers.people import log_in, make_users
from playwright.sync_api import Page
from support.deployment import Deployment, deployed

from streamswarm import contract
from web import create_app
from web.auth.sessions import COOKIE
from web.pages.charts import chart_groups

SIZE = Size(
    workers=int(os.environ.get("BENCH_PAGES_WORKERS", "5000")),
    tests=int(os.environ.get("BENCH_PAGES_TESTS", "10000")),
    results=int(os.environ.get("BENCH_PAGES_RESULTS", "50000000")),
)
SMALL = Size(workers=20, tests=220, results=100_000)
GOAL_MS, PAINT_GOAL_MS = 200.0, 1000.0
#: What a list holds may grow by so much, a share, from the tenth page of its rows to the last that is scrolled to.
GROWTH_GOAL = 0.1
ASKED = 40
_SCROLLED, _BEFORE = 40, 10
_SEED = 20_260_329
#: Parts of pages and data, which no browser opens by themselves.
_PARTS = frozenset(
    (
        "pages.overview_live",
        "pages.test_latest",
        "pages.test_chart",
        "pages.test_rows",
        "pages.worker_live",
        "pages.operation_live",
        "pages.test_fields",
        "pages.test_preview",
    )
)
_LISTS = ("/tests", "/workers", "/destinations")

Subject = Mapping[str, Any]


def _subjects(deployment: Deployment) -> list[Subject]:
    """Return what pages are asked about: tests of all sorts, each with a run, a worker, a destination, and others of theirs."""
    rows = deployment.sql(
        "(SELECT id, kind FROM tests ORDER BY id LIMIT 60) UNION ALL "
        "(SELECT id, kind FROM tests WHERE id > 60 ORDER BY md5(id::text) LIMIT 60)"
    )
    operations = [row[0] for row in deployment.sql("SELECT id FROM operations ORDER BY id")]
    found = []
    for number, (test_id, kind) in enumerate(rows):
        ((job_id, worker_id, destination_id),) = deployment.sql(
            "SELECT id, worker_id, destination_id FROM jobs WHERE test_id = %s ORDER BY id LIMIT 1", test_id
        )
        ((at_us,),) = deployment.sql(
            f"SELECT (extract(epoch FROM max(scheduled_at)) * 1000000)::bigint FROM result_{kind} "
            "WHERE job_id = %s AND scheduled_at < now() - interval '3 hours'",
            job_id,
        )
        found.append(
            {
                "test_id": test_id,
                "kind": kind,
                "job_id": job_id,
                "at_us": at_us,
                "worker_id": worker_id,
                "destination_id": destination_id,
                "operation_id": operations[number % len(operations)],
                "name": kind,
            }
        )
    return found


def _range(hours: float) -> str:
    now = dt.datetime.now(dt.UTC).timestamp()
    return f"from={int((now - hours * 3600) * 1000)}&to={int(now * 1000)}"


def _chart_queries(subject: Subject) -> Iterator[str]:
    names = [
        metric.name
        for group in chart_groups(contract.kind(subject["kind"]))
        if group.main
        for metric in group.metrics
    ]
    for hours in (1 / 12, 1, 24, 7 * 24, 30 * 24):
        yield f"{_range(hours)}&metrics={','.join(names)}"


def _rows_queries(subject: Subject) -> Iterator[str]:
    for child in contract.kind(subject["kind"]).children[:1]:
        names = [metric.name for group in chart_groups(child) if group.main for metric in group.metrics]
        for hours in (1, 24, 7 * 24):
            yield f"child={child.name}&{_range(hours)}&metrics={','.join(names)}"


#: In which forms some pages are asked for, beside the plain one.
_QUERIES: dict[str, Callable[[Subject], Iterator[str]]] = {
    "pages.test_chart": _chart_queries,
    "pages.test_rows": _rows_queries,
    "pages.test": lambda _: iter(("", "only=bad")),
    "pages.test_accounts": lambda _: iter(("", "range=3600", "range=604800")),
    "pages.tests": lambda _: iter(("", "q=0042", "kind=http", "paused=no", "q=nothing+like+it")),
    "pages.workers": lambda _: iter(("", "q=host-0004", "q=site-07")),
    "pages.destinations": lambda _: iter(("", "q=0042")),
    "pages.test_fields": lambda subject: iter((f"kind={subject['kind']}",)),
    "pages.test_new": lambda subject: iter(("", f"kind={subject['kind']}")),
    "pages.reports": lambda subject: iter(("", f"test={subject['test_id']}")),
}


class Pages:
    """The pages of an application, as they are asked for; made by `opened`."""

    def __init__(self, deployment: Deployment, address: str, cookie: str) -> None:
        self._address = address
        self._headers = {"Accept": "text/html", "Cookie": f"{COOKIE}={cookie}"}
        self._line = Line(address)
        self._subjects = _subjects(deployment)
        app = create_app(replace(deployment.settings))
        self._adapter = app.url_map.bind("localhost")
        self._rules = {
            rule.endpoint: rule
            for rule in app.url_map.iter_rules()
            if rule.endpoint.startswith("pages.") and "GET" in (rule.methods or ())
        }

    @property
    def endpoints(self) -> list[str]:
        """Names of all pages."""
        return sorted(self._rules)

    def paths(self, endpoint: str) -> list[str]:
        """Return what a page is asked for by."""
        queries = _QUERIES.get(endpoint, lambda _: iter(("",)))
        arguments = self._rules[endpoint].arguments
        found = dict.fromkeys(
            f"{self._adapter.build(endpoint, {name: subject[name] for name in arguments})}{'?' if query else ''}{query}"
            for subject in self._subjects
            if not (unknown := arguments - subject.keys()) or _unknown(endpoint, unknown)
            for query in queries(subject)
        )
        assert found, f"nothing to ask {endpoint} for"
        return list(found)

    def ask(self, path: str) -> tuple[float, bytes]:
        """Return how long a page took, milliseconds, and what it is."""
        return self._line.answer(request(path, self._address, **self._headers))

    def p95_ms(self) -> dict[str, float]:
        """Ask for every page many times; return the 95th percentile of the times of each."""
        chance = random.Random(_SEED)
        found = {}
        for endpoint in self.endpoints:
            paths = self.paths(endpoint)
            chance.shuffle(paths)
            self.ask(paths[0])
            asked = [paths[number % len(paths)] for number in range(max(ASKED, min(len(paths), 3 * ASKED)))]
            times = [self.ask(path)[0] for path in asked]
            found[endpoint] = statistics.quantiles(times, n=20)[18]
        return found


def _unknown(endpoint: str, names: set[str]) -> bool:
    raise AssertionError(
        f"{endpoint} takes {', '.join(names)}, of which nothing is known: add it to `_subjects`"
    )


@contextmanager
def opened(size: Size) -> Iterator[tuple[Pages, str, str, Made]]:
    """Make an installation and serve it; yield its pages, address, cookie and what there is."""
    with deployed() as deployment:
        made = fill(deployment, size)
        make_users(deployment.settings, ["ada"], "admin")
        world = World(deployment, [])
        try:
            _, address = world.web()
            cookie = log_in(address, "ada")
            yield Pages(deployment, address, cookie), address, cookie, made
        finally:
            world.end()


def _paints_ms(page: Page, pages: Pages) -> dict[str, float]:
    """Open every page that a browser can open, three times; return the median time of the first paint of each."""
    found = {}
    for endpoint in pages.endpoints:
        if endpoint in _PARTS:
            continue
        times = []
        for path in (pages.paths(endpoint) * 3)[:3]:
            page.goto(path, wait_until="load")
            deadline = time.monotonic() + 30
            while not (painted := page.evaluate(_PAINT)):
                assert time.monotonic() < deadline, f"{path} is not painted"
                page.wait_for_timeout(50)
            times.append(float(painted))
        found[endpoint] = statistics.median(times)
    return found


_PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"
#: The last row has been seen: its text changes when more have come.
_LAST = "() => [...document.querySelectorAll('main table tbody tr a')].at(-1)?.getAttribute('href')"


def _growth(page: Page, path: str) -> tuple[float, float, int]:
    """Scroll a list down; return by which share heap and nodes have grown since the tenth page, and the rows that were seen."""
    page.goto(path)
    seen: set[str] = set()
    before = None
    for number in range(_SCROLLED):
        links = page.evaluate("() => [...document.querySelectorAll('main tbody th a')].map((a) => a.href)")
        seen.update(links)
        if number == _BEFORE:
            before = held(page)
        last = page.evaluate(_LAST)
        page.mouse.wheel(0, 100_000)
        deadline = time.monotonic() + 10
        while page.evaluate(_LAST) == last and page.locator("main .more-rows").count():
            assert time.monotonic() < deadline, f"{path} does not go on behind {len(seen)} rows"
            page.wait_for_timeout(20)
    assert before, path
    after = held(page)
    return after["heap_mib"] / before["heap_mib"] - 1, after["nodes"] / before["nodes"] - 1, len(seen)


def measure() -> dict[str, Any]:
    """The small installation first, then the large one, then a browser."""
    with opened(SMALL) as (pages, *_):
        small = pages.p95_ms()
    started = time.monotonic()
    with opened(SIZE) as (pages, address, cookie, made):
        filled_s = time.monotonic() - started
        found = pages.p95_ms()
        with window(address, cookie) as page:
            paints = _paints_ms(page, pages)
            growth = {path: _growth(page, path) for path in _LISTS}
    slowest = max(found, key=lambda endpoint: found[endpoint])
    last_paint = max(paints, key=lambda endpoint: paints[endpoint])
    heap, nodes = (max(each[index] for each in growth.values()) for index in (0, 1))
    return {
        "value": round(found[slowest], 1),
        "unit": "ms, p95 of the slowest page",
        "peer": f"the same page with {SMALL.workers} workers and {SMALL.tests} tests",
        "peer_value": round(small[slowest], 1),
        "ratio": round(found[slowest] / small[slowest], 2),
        "goal": f"<= {GOAL_MS:g} ms, first paint <= {PAINT_GOAL_MS:g} ms, lists hold no more when they go on",
        "ok": found[slowest] <= GOAL_MS
        and paints[last_paint] <= PAINT_GOAL_MS
        and max(heap, nodes) <= GROWTH_GOAL,
        "slowest": slowest,
        "pages": len(found),
        "too_slow": {name: round(taken) for name, taken in found.items() if taken > GOAL_MS},
        "median_ms": round(statistics.median(found.values()), 1),
        "paint_ms": round(paints[last_paint]),
        "last_painted": last_paint,
        "paint_median_ms": round(statistics.median(paints.values())),
        "heap_growth": round(heap, 3),
        "node_growth": round(nodes, 3),
        "rows_scrolled": {path: rows for path, (_, _, rows) in growth.items()},
        "workers": SIZE.workers,
        "tests": SIZE.tests,
        "jobs": made.jobs,
        "results": made.results,
        "days": made.days,
        "gib": round(made.bytes / 2**30, 1),
        "filled_s": round(filled_s),
    }
