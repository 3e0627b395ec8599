"""A test of 20 lines over 30 days, drawn in a real browser: from the click on "30 d", and from the end of a zoom.

A zoom is seen twice: at once, of what is known, and finer with the server's answer; the goal is about the first, and the second is told.
Each line ran once a minute; the days are in the order of their keys and rolled up, as keepers leave them. Counted is from
the browser's own event, the click or the release of the mouse, until the frame with all charts is there. The peer is what
the chart library takes for as many charts with as many lines and points out of memory, with nothing asked of anybody.
`BENCH_DRAW_DAYS` sets how many days there are; the range stays.
"""

from __future__ import annotations

import datetime as dt
import os
import statistics
from typing import Any

import psycopg
from bench.swarm.world import World
from bench.viewers.browser import window
from bench.viewers.people import log_in, make_users
from bench_chart import fill_sql
from playwright.sync_api import Page
from support.deployment import Deployment, deployed

from controller.store import partitions
from controller.store.engine import libpq_url, make_engine
from controller.store.rollups import rolling

DAYS = int(os.environ.get("BENCH_DRAW_DAYS", "30"))
LINES = 20
RANGE_S = 30 * 86_400
ROUNDS = 10
GOAL_MS, ZOOM_GOAL_MS = 500.0, 200.0
_MINUTES = 1440
_PATIENCE_MS = 60_000
#: Notes when each event came, when another range was on the screen, and when each drawing was, in milliseconds of the page's
#: clock, and its points.
_WATCH = """
() => {
  window.drawn = [];
  window.scaled = [];
  window.begun = {};
  const board = document.querySelector('[data-charts]');
  const note = () => {
    const points = Number(board.dataset.points);
    requestAnimationFrame(() => setTimeout(() => window.drawn.push([performance.now(), points])));
  };
  new MutationObserver(note).observe(board, {attributeFilter: ['data-points']});
  const shown = () => requestAnimationFrame(() => setTimeout(() => window.scaled.push(performance.now())));
  new MutationObserver(shown).observe(document.querySelector('[data-span]'), {childList: true});
  for (const type of ['click', 'mouseup']) {
    document.addEventListener(type, (event) => { window.begun[type] = event.timeStamp; }, true);
  }
  performance.setResourceTimingBufferSize(5000);
}
"""
_ASKED = """
() => {
  const last = performance.getEntriesByType('resource').filter((entry) => entry.name.includes('/chart.json')).at(-1);
  return [last.responseEnd - last.requestStart, last.encodedBodySize / 1024];
}
"""
_PEER = """
async ([charts, lines, points]) => {
  const place = document.createElement('div');
  document.body.append(place);
  const times = Array.from({ length: points }, (_, index) => 1.7e9 + index * 5400);
  const wave = (line, shift) => times.map((_, index) => 20 + line + shift + Math.sin(index / 9 + line));
  const data = [times];
  const series = [{}];
  const bands = [];
  for (let line = 0; line < lines; line += 1) {
    const at = series.length;
    series.push({ stroke: '#268bd2', width: 1.75 }, { stroke: 'transparent', width: 0 }, { stroke: 'transparent', width: 0 });
    bands.push({ series: [at + 2, at + 1], fill: 'rgb(38 139 210 / 20%)' });
    data.push(wave(line, 0), wave(line, -1), wave(line, 1));
  }
  const started = performance.now();
  for (let chart = 0; chart < charts; chart += 1) {
    new uPlot({ width: 700, height: 216, series, bands, legend: { show: false } }, data, place);
  }
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const taken = performance.now() - started;
  place.remove();
  return taken;
}
"""


def _fill(deployment: Deployment) -> int:
    """Make a test of 20 lines with its past; return its id."""
    members = deployment.make_workers(LINES)
    jobs = deployment.make_jobs([member.worker_id for member in members], tests=1)
    numbers = sorted(job for of_worker in jobs.values() for job in of_worker)
    assert numbers == list(range(1, LINES + 1)), "the past is made by these numbers"
    now = dt.datetime.now(dt.UTC)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    engine = make_engine(deployment.settings, application="bench", statement_timeout_s=3600)
    with psycopg.connect(libpq_url(deployment.settings), autocommit=True) as connection:
        connection.execute("UPDATE jobs SET anchor_us = id * 1000, created_at = now() - interval '100 days'")
        connection.execute(
            "INSERT INTO job_versions (job_id, version, interval_us, anchor_us, valid_from) "
            "SELECT id, 1, interval_us, anchor_us, created_at FROM jobs"
        )
        for back in range(DAYS, -1, -1):
            day = today - dt.timedelta(days=back)
            with engine.begin() as made:
                partitions.ensure_partitions(made, "ping", [day.date()])
            minutes = _MINUTES if back else int((now - today).total_seconds()) // 60
            text = fill_sql("result_ping", 0, minutes, LINES, day.isoformat())
            connection.execute(
                (text.replace("ORDER BY minute, job", "ORDER BY job, minute") if back else text).encode()
            )
        rolling.roll_up(engine, "ping")
        connection.execute("VACUUM (FREEZE, ANALYZE)")
    engine.dispose()
    return int(deployment.sql("SELECT id FROM tests")[0][0])


def _drawn_ms(page: Page, event: str, before: int, least: int = 1) -> float:
    """Wait for the drawing of so many points that follows an event; return how long it took."""
    for _ in range(_PATIENCE_MS // 20):
        drawn, begun = page.evaluate("[window.drawn, window.begun]")
        if any(points >= least for _, points in drawn[before:]):
            # The last: whatever is drawn before all is there is no end.
            page.wait_for_timeout(300)
            at, _ = page.evaluate("window.drawn.at(-1)")
            return float(at - begun[event])
        page.wait_for_timeout(20)
    raise AssertionError("nothing is drawn")


def _click_ms(page: Page, selector: str, least: int = 1) -> float:
    before = int(page.evaluate("window.drawn.length"))
    page.locator(selector).first.click()
    return _drawn_ms(page, "click", before, least)


def _seen_ms(page: Page, event: str) -> float:
    """Return how long after the newest of an event the other range was on the screen."""
    at, begun = page.evaluate(
        "(event) => [window.scaled.find((at) => at > window.begun[event]), window.begun[event]]", event
    )
    return float(at - begun)


def _drag_ms(page: Page) -> float:
    """Zoom into the middle third of the first chart with the mouse."""
    box = page.locator(".chart-main .u-over").bounding_box()
    assert box
    before = int(page.evaluate("window.drawn.length"))
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 3, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, middle, steps=4)
    page.mouse.move(box["x"] + 2 * box["width"] / 3, middle, steps=4)
    page.mouse.up()
    return _drawn_ms(page, "mouseup", before)


def _measure(page: Page, test_id: int) -> dict[str, list[float]]:
    names = ("draw", "seen", "finer", "server", "kib", "peer")
    found: dict[str, list[float]] = {name: [] for name in names}
    page.goto(f"/tests/{test_id}")
    page.locator("[data-points]").wait_for()
    page.wait_for_timeout(1000)
    page.evaluate(_WATCH)
    for _ in range(ROUNDS):
        _click_ms(page, "[data-range='3600']")
        found["draw"].append(_click_ms(page, f"[data-range='{RANGE_S}']", LINES * min(DAYS, 30) * 10))
        server, kib = page.evaluate(_ASKED)
        found["server"].append(server)
        found["kib"].append(kib)
        points = int(page.locator("[data-charts]").get_attribute("data-points") or 0)
        found["finer"].append(_drag_ms(page))
        found["seen"].append(_seen_ms(page, "mouseup"))
        found["finer"].append(_click_ms(page, "[data-magnify='0.5']"))
        found["seen"].append(_seen_ms(page, "click"))
        charts = page.locator(".chart:visible .u-over").count()
        found["peer"].append(page.evaluate(_PEER, [charts, LINES, points // LINES]))
        found.setdefault("points", [points])
        found.setdefault("charts", [charts])
    return found


def measure() -> dict[str, Any]:
    """Fill, roll up, look."""
    with deployed() as deployment:
        test_id = _fill(deployment)
        make_users(deployment.settings, ["ada"], "operator")
        world = World(deployment, [])
        try:
            _, address = world.web()
            with window(address, log_in(address, "ada")) as page:
                found = _measure(page, test_id)
        finally:
            world.end()
    value, zoom, peer = max(found["draw"]), max(found["seen"]), statistics.median(found["peer"])
    return {
        "value": round(value),
        "unit": "ms from the click to the drawing, at most",
        "peer": "uPlot alone, as many lines out of memory",
        "peer_value": round(peer),
        "ratio": round(value / peer, 2),
        "goal": f"<= {GOAL_MS:g} ms, zoom <= {ZOOM_GOAL_MS:g} ms",
        "ok": value <= GOAL_MS and zoom <= ZOOM_GOAL_MS,
        "median_ms": round(statistics.median(found["draw"])),
        "zoom_ms": round(zoom),
        "zoom_median_ms": round(statistics.median(found["seen"])),
        "zoom_finer_ms": round(max(found["finer"])),
        "zoom_finer_median_ms": round(statistics.median(found["finer"])),
        "server_ms": round(statistics.median(found["server"])),
        "kib": round(statistics.median(found["kib"])),
        "lines": LINES,
        "points": int(found["points"][0]),
        "charts": int(found["charts"][0]),
        "rounds": ROUNDS,
    }
