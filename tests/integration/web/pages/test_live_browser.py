"""Live updates in a real browser: what is no longer up to date says so, and pages share one stream whatever the browser has."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Page, expect
from sqlalchemy import Engine, func, update

from controller.store.entities import WebSession

pytestmark = pytest.mark.browser

WITHOUT_WORKER = "delete window.SharedWorker"
ALONE = "delete window.SharedWorker; delete window.BroadcastChannel"


class Outage:
    """Answers as a proxy does whose dashboard is gone, while it is `on`."""

    def __init__(self, app: Flask) -> None:
        self.on = False
        self._app = app
        self._real = app.wsgi_app
        app.wsgi_app = self  # type: ignore[assignment]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if not self.on:
            return self._real(environ, start_response)
        start_response("502 Bad Gateway", [("Content-Type", "text/plain")])
        return [b"gone\n"]

    def begin(self) -> None:
        """Let it begin, with an end to the streams that are open."""
        self.on = True
        hub = self._app.extensions["live"]
        for stream in list(hub._streams):
            stream.end()


def sign(page: Page) -> Any:
    """Return what tells how live the page is."""
    return page.locator("[data-live-state]")


def quiet_page(window: Any, script: str = "") -> Page:
    """Log in, and open a page without parts that refresh themselves."""
    if script:
        window.page.context.add_init_script(script)
    page: Page = window.log_in()
    page.goto(f"{window.address}/destinations/new")
    expect(sign(page)).to_have_text("Live", timeout=15_000)
    return page


def write_to_all(hub: Any) -> None:
    """The server finds out that a page's stream is closed when it writes to it."""
    for stream in list(hub._streams):
        stream.add(frozenset({7}))


def wait_for_streams(hub: Any, number: int, page: Page) -> None:
    deadline = time.monotonic() + 30
    while hub.streams != number:
        assert time.monotonic() < deadline, f"{hub.streams} streams"
        page.wait_for_timeout(100)


@pytest.mark.parametrize("script", ["", ALONE])
def test_a_page_says_since_when_it_is_not_up_to_date(
    app: Flask, open_window: Callable[..., Any], script: str
) -> None:
    """A dashboard that is gone is no "Live": first it reconnects, then the page tells since when; back, it is live again."""
    outage = Outage(app)
    page = quiet_page(open_window(), script)
    outage.begin()
    expect(sign(page)).to_have_text("Reconnecting…", timeout=10_000)
    expect(sign(page)).to_contain_text("Not live since", timeout=30_000)
    outage.on = False
    expect(sign(page)).to_have_text("Live, every 5 s", timeout=15_000)


def test_who_is_logged_out_elsewhere_is_told_and_live_again_after_the_next_login(
    app: Flask, open_window: Callable[..., Any], engine: Engine
) -> None:
    """A form stays as it is and says so; a page with live parts leads to the login."""
    window = open_window()
    page = quiet_page(window)
    with engine.begin() as connection:
        connection.execute(update(WebSession).values(ended_at=func.now()))
    expect(sign(page)).to_have_text("Logged out", timeout=15_000)
    assert page.url.endswith("/destinations/new")
    other = page.context.new_page()
    other.goto(f"{window.address}/login")
    other.get_by_label("Name").fill("ada")
    other.get_by_label("Password").fill("correct horse battery")
    other.get_by_role("button", name="Log in").click()
    expect(sign(other)).to_have_text("Live", timeout=15_000)
    expect(sign(page)).to_have_text("Live", timeout=15_000)
    with engine.begin() as connection:
        connection.execute(update(WebSession).values(ended_at=func.now()))
    other.wait_for_url("**/login**", timeout=15_000)
    # A part of the page that is refreshed may be told before the stream, which ends with its session too.
    wait_for_streams(app.extensions["live"], 0, other)


def test_pages_share_one_stream_without_a_shared_worker(app: Flask, open_window: Callable[..., Any]) -> None:
    """Where a browser has none, one page listens for all; when it is closed another takes over."""
    window = open_window()
    first = quiet_page(window, WITHOUT_WORKER)
    others = [first.context.new_page() for _ in range(2)]
    for page in others:
        page.goto(f"{window.address}/destinations/new")
        expect(sign(page)).to_have_text("Live", timeout=15_000)
    hub = app.extensions["live"]
    write_to_all(hub)
    wait_for_streams(hub, 1, first)
    first.close()
    for page in others:
        page.wait_for_timeout(1500)
        expect(sign(page)).to_have_text("Live", timeout=15_000)
    for page in others:
        page.evaluate(
            "document.addEventListener('streamswarm:results', ({ detail }) => { window.told = detail.tests; })"
        )
    write_to_all(hub)
    wait_for_streams(hub, 1, others[0])
    for page in others:
        page.wait_for_function("window.told && window.told[0] === 7", timeout=30_000)


def test_a_connection_on_which_nothing_comes_any_more_is_opened_anew(
    open_window: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server says every 15 s that it is there; a page that hears nothing for 40 s does not go on saying "Live"."""
    window = open_window()
    window.page.clock.install()
    opened: list[str] = []
    page = quiet_page(window, ALONE)
    page.on("request", lambda request: opened.append(request.url) if request.url.endswith("/live") else None)
    page.clock.fast_forward(30_000)
    assert opened == []
    page.clock.fast_forward(15_000)
    page.wait_for_timeout(500)
    assert len(opened) == 1
    expect(sign(page)).to_have_text("Live", timeout=15_000)


def test_a_tick_outlives_a_refresh_that_was_under_way(open_window: Callable[..., Any], rows: Any) -> None:
    """What the server was asked for before somebody ticked a row is not drawn; without a tick it is."""
    test = rows.test("Round trip", "system")
    job = rows.job(test, rows.worker("edge-1"))
    window = open_window()
    page = window.log_in()
    window.open("/tests")
    expect(sign(page)).to_have_text("Live", timeout=15_000)
    held: list[Any] = []

    def hold(route: Any) -> None:
        held.append(route)

    page.route(f"{window.address}/tests", hold)

    def refresh() -> None:
        rows.run(job, dt.datetime.now(dt.UTC))
        deadline = time.monotonic() + 30
        while not held:
            assert time.monotonic() < deadline, "the list does not refresh itself"
            page.wait_for_timeout(50)

    tick = page.get_by_role("checkbox", name="Tick Round trip")
    refresh()
    tick.check()
    with page.expect_response(f"{window.address}/tests"):
        held.pop().continue_()
    page.wait_for_timeout(300)
    expect(tick).to_be_checked()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    tick.uncheck()
    page.evaluate("document.querySelector('#rows table').dataset.old = 'yes'")
    refresh()
    held.pop().continue_()
    expect(page.locator("#rows table[data-old]")).to_have_count(0, timeout=15_000)
    expect(page.locator("#rows table")).to_be_visible()
    assert window.troubles == []
