"""Looks at pages in a real browser: when something is seen first, and what a list holds while somebody scrolls down it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil
from playwright.sync_api import CDPSession, Page

#: Loads of each page, whose median counts.
LOADS = 3
_PAINTED = """
() => new Promise((done) => {
  const look = () => {
    const found = performance.getEntriesByName('first-contentful-paint');
    if (found.length) done(found[0].startTime);
    else setTimeout(look, 20);
  };
  look();
})
"""
_ROWS = "() => document.querySelector('main tbody tr:last-child th a')?.textContent ?? ''"
_AT_END = "() => document.querySelector('main tbody .more-rows') === null"
_SCROLL_MS = 60_000


@dataclass(frozen=True, kw_only=True)
class Held:
    """What is held at a moment."""

    #: Pages of rows that have come so far, the first among them.
    pages: int
    nodes: int
    heap_kib: float
    #: Of the server's processes.
    server_kib: float


def first_paints(page: Page, paths: Sequence[str]) -> dict[str, float]:
    """Return after how many milliseconds each page has something on the screen, with nothing in the browser's cache."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("Network.enable")
    devtools.send("Network.setCacheDisabled", {"cacheDisabled": True})
    found = {}
    for path in paths:
        taken = []
        for _ in range(LOADS):
            page.goto(path)
            taken.append(float(page.evaluate(_PAINTED)))
        found[path] = statistics.median(taken)
    devtools.detach()
    return found


def scroll(page: Page, path: str, pages: int, server: psutil.Process) -> tuple[Held, Held, Held]:
    """Scroll down a list of so many pages of rows to its end; return what is held at first, after a fifth, and at the end."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("Performance.enable")
    page.goto(path)
    page.mouse.move(640, 600)
    held = [_held(devtools, server, 1)]
    seen = 1
    for goal in (max(2, pages // 5), pages):
        while seen < goal and not page.evaluate(_AT_END):
            last = page.evaluate(_ROWS)
            _until(page, lambda last=last: page.evaluate(_ROWS) != last)
            seen += 1
        page.wait_for_timeout(500)
        held.append(_held(devtools, server, seen))
    devtools.detach()
    first, early, late = held
    return first, early, late


def _until(page: Page, come: Callable[[], bool]) -> None:
    """Turn the wheel until the next rows are there."""
    deadline = time.monotonic() + _SCROLL_MS / 1000
    while not come():
        assert time.monotonic() < deadline, "no further rows come"
        page.mouse.wheel(0, 3000)
        page.wait_for_timeout(50)


def _held(devtools: CDPSession, server: psutil.Process, pages: int) -> Held:
    devtools.send("HeapProfiler.collectGarbage")
    devtools.send("HeapProfiler.collectGarbage")
    metrics = {item["name"]: item["value"] for item in devtools.send("Performance.getMetrics")["metrics"]}
    processes = [server, *server.children(recursive=True)]
    return Held(
        pages=pages,
        nodes=int(metrics["Nodes"]),
        heap_kib=metrics["JSHeapUsedSize"] / 1024,
        server_kib=sum(process.memory_info().rss for process in processes) / 1024,
    )
