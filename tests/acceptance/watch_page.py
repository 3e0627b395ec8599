"""Logs in by a one-time link, watches a test's page in a real browser, and prints what it saw as JSON.

    python watch_page.py LINK PAGE [PICTURE]

A program of its own, so that the browser runs where its caller runs: in the laboratory's namespace.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from typing import Any

from playwright.sync_api import Page, sync_playwright

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip


def points(page: Page) -> int:
    """Rows of the main chart's table, which has what the chart has."""
    return page.locator(".chart-main tbody tr").count()


def wait_for_points(page: Page, count: int, within_s: float = 30) -> None:
    """Wait for the chart to have so many; by looking again and again, since the page's policy forbids `eval`."""
    deadline = time.monotonic() + within_s
    while points(page) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the chart has {points(page)} points after {within_s:g} s, not {count}")
        page.wait_for_timeout(200)


def watch(page: Page, link: str, address: str, picture: str | None) -> dict[str, Any]:
    """Log in, open the page, wait for the chart to grow."""
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(link)
    button = page.locator("main button[type=submit]")
    if button.count():
        button.first.click()
    page.wait_for_url(lambda url: "/login" not in url)
    page.goto(address)
    loads: list[str] = []
    page.on("framenavigated", lambda frame: loads.append(frame.url))
    page.locator(".chart-main details > summary").first.click()
    wait_for_points(page, 1)
    before = points(page)
    wait_for_points(page, before + 2)
    seen = {
        "points_before": before,
        "points_after": points(page),
        "reloads": len(loads),
        "console_errors": errors,
        "text": page.inner_text("main"),
    }
    if picture:
        page.locator(".chart-main details > summary").first.click()
        page.screenshot(path=picture, full_page=True)
    return seen


def main() -> None:
    """Run with the program's arguments."""
    link, address, *picture = sys.argv[1:]
    with tempfile.TemporaryDirectory() as profile, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path="/usr/bin/chromium", headless=True, chromium_sandbox=False, args=FLAGS,
            viewport={"width": 1280, "height": 900},
        )  # fmt: skip
        seen = watch(context.new_page(), link, address, picture[0] if picture else None)
        context.close()
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    main()
