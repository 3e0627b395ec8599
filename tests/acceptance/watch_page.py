"""Logs in by a one-time link, watches a test's page in a real browser, and prints what it saw as JSON.

    python watch_page.py LINK PAGE [PICTURE]

A program of its own, so that the browser runs where its caller runs: in the laboratory's namespace.
"""

from __future__ import annotations

import json
import sys
import tempfile
from typing import Any

from playwright.sync_api import Page, sync_playwright

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip


def points(page: Page) -> int:
    """Rows of the main chart's table, which has what the chart has."""
    return page.locator(".chart-main tbody tr").count()


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
    page.wait_for_function("document.querySelectorAll('.chart-main tbody tr').length > 0", timeout=20_000)
    before = points(page)
    page.wait_for_function(
        f"document.querySelectorAll('.chart-main tbody tr').length >= {before} + 2", timeout=30_000
    )
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
