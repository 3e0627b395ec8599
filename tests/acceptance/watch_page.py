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


def newest(page: Page) -> str | None:
    """Time of the first row in the main chart's table: what the chart has, newest first, and no more than a page of it."""
    cell = page.locator(".chart-main tbody tr:first-child td:first-child")
    return cell.text_content() if cell.count() else None


def newer(page: Page, than: str | None, within_s: float = 30) -> str:
    """Wait for a newer row than that; by looking again and again, since the page's policy forbids `eval`."""
    deadline = time.monotonic() + within_s
    while (seen := newest(page)) is None or seen == than:
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"the chart's newest point after {within_s:g} s is still that of {than or 'no run'}"
            )
        page.wait_for_timeout(200)
    return seen


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
    newest_times: list[str] = []
    while len(newest_times) < 3:
        newest_times.append(newer(page, newest_times[-1] if newest_times else None))
    seen = {
        "newest": newest_times,
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
