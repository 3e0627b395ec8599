"""Debian's chromium, headless, as somebody who is logged in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, sync_playwright
from support.chromium import CHROMIUM, FLAGS

from web.auth.sessions import COOKIE


@contextmanager
def window(address: str, cookie: str) -> Iterator[Page]:
    """Open a window of 1280 x 900 that has a session; what goes wrong in it fails the benchmark at its end."""
    troubles: list[str] = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context(viewport={"width": 1280, "height": 900}, base_url=f"http://{address}")
        context.add_cookies([{"name": COOKIE, "value": cookie, "url": f"http://{address}"}])
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        yield page
        browser.close()
    assert not troubles, troubles
