"""The dashboard in a real browser: forms, live charts, recovery, themes, and what assistive technology finds."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select, text
from sqlalchemy.orm import Session
from support.axe import violations

from controller.store.entities import Destination, Test
from streamswarm.v1 import probe_pb2

pytestmark = pytest.mark.browser

POINTS = "document.querySelector('[data-charts]').dataset.points"


def now(seconds: float = 0) -> dt.datetime:
    """Return an instant so many seconds from now."""
    return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)


def wait_for_points(page: Page, count: int) -> None:
    """Wait until the charts hold so many runs."""
    # Asked from here: the policy forbids the page to make code of text, as a condition of the browser's would.
    deadline = time.monotonic() + 20
    while int(page.evaluate(POINTS) or 0) < count:
        assert time.monotonic() < deadline, f"the charts hold {page.evaluate(POINTS)} runs, not {count}"
        page.wait_for_timeout(100)


@pytest.fixture
def world(rows: Any) -> dict[str, Any]:
    """A fleet with something of everything: results, failures, an unavailable kind, a lost worker."""
    edge = rows.worker("edge-1", site="ams")
    kinds = {"ping": {"available": False, "reason": "no ICMP sockets here", "mend": "sysctl -w it"}}
    rows.worker("edge-2", kinds=kinds)
    rows.worker("gone", connected=False)
    place = rows.destination("Router", "192.0.2.1")
    test = rows.test("Round trip", "ping", destinations=[place])
    job = rows.job(test, edge, place)
    for index in range(30):
        if not 10 <= index < 15:
            rows.run(job, now(index * 2 - 62), rtt_avg_ms=10 + index % 4, rtt_min_ms=9, loss_pct=0.0)
    rows.run(
        job,
        now(-1),
        status=probe_pb2.STATUS_FAILED,
        source=probe_pb2.FAILURE_SOURCE_NETWORK,
        error="no reply within 1000 ms",
    )
    return {"test": test, "job": job, "worker": edge, "place": place}


def test_from_login_to_a_live_chart(open_window: Callable[..., Any], rows: Any, engine: Any) -> None:
    """A destination and a test are made through the forms; results appear on the chart without a reload."""
    worker = rows.worker("edge-1")
    window = open_window()
    page = window.log_in()
    page.get_by_role("link", name="Destinations", exact=True).click()
    page.get_by_role("link", name="Add the first destination").click()
    page.get_by_label("Name", exact=True).fill("Router")
    page.get_by_label("Address").fill("192.0.2.1")
    page.get_by_role("button", name="Add destination").click()
    expect(page.get_by_role("status").filter(has_text="is there")).to_be_visible()

    page.get_by_role("link", name="Tests", exact=True).click()
    page.get_by_role("link", name="Create the first test").click()
    page.get_by_label("Name", exact=True).fill("Connects")
    expect(page.get_by_label("Packets")).to_be_visible()
    page.get_by_role("radio", name="TCP connect").check()
    expect(page.get_by_label("Packets")).to_have_count(0)
    page.get_by_role("spinbutton", name="Port").fill("8443")
    page.get_by_role("checkbox", name="Router").check()
    page.get_by_label("Interval", exact=True).fill("2")
    page.get_by_role("button", name="Create test").click()
    expect(page.get_by_role("heading", name="Connects", level=1)).to_be_visible()
    with Session(engine) as session:
        test = session.scalars(select(Test)).one()
        place = session.scalars(select(Destination)).one()
        assert (test.kind, test.spec["port"], test.interval_s) == ("tcp", 8443, 2.0)

    expect(page.locator("[data-live-state]")).to_have_text("Live", timeout=15_000)
    page.evaluate("window.stayed = true")
    job = rows.job(test.id, worker, place.id)
    for index in range(3):
        rows.run(job, now(index * 2 - 6), connect_ms=12.0 + index)
    wait_for_points(page, 3)
    expect(page.locator("#results")).to_contain_text("14 ms", timeout=15_000)
    rows.run(
        job,
        now(),
        status=probe_pb2.STATUS_FAILED,
        source=probe_pb2.FAILURE_SOURCE_TARGET,
        error="connection refused",
    )
    wait_for_points(page, 4)
    expect(page.locator("#results")).to_contain_text("destination: connection refused", timeout=15_000)
    expect(page.locator("[data-summary]").first).to_contain_text("1 failed")
    assert page.evaluate("window.stayed"), "the page must not have been loaded anew"
    assert page.locator("canvas").count() >= 1
    assert window.troubles == []


def test_ranges_zoom_legend_and_table(open_window: Callable[..., Any], world: dict[str, Any]) -> None:
    """Range buttons, zooming by drag and by keyboard, hiding a line, and the table that says the same."""
    window = open_window()
    page = window.log_in()
    window.open(f"/tests/{world['test']}")
    wait_for_points(page, 26)
    hour = page.get_by_role("button", name="1 h", exact=True)
    hour.click()
    expect(hour).to_have_attribute("aria-pressed", "true")
    over = page.locator(".u-over").first
    box = over.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 60, steps=5)
    page.mouse.up()
    back = page.get_by_role("button", name="Back to live")
    expect(back).to_be_visible()
    expect(page.locator("[data-span]")).not_to_be_empty()
    expect(hour).to_have_attribute("aria-pressed", "false")
    back.click()
    expect(back).to_be_hidden()
    wait_for_points(page, 26)
    chart = page.get_by_role("group", name="Chart of Round-trip time")
    chart.focus()
    page.keyboard.press("End")
    expect(page.locator(".readout").first).to_be_visible()
    page.keyboard.press("+")
    expect(back).to_be_visible()
    page.keyboard.press("Escape")
    expect(back).to_be_hidden()
    line = page.get_by_role("button", name="RTT minimum")
    line.click()
    expect(line).to_have_attribute("aria-pressed", "false")
    page.get_by_text("As a table").first.click()
    table = page.get_by_role("region", name="Values of Round-trip time")
    expect(table.get_by_role("columnheader", name="RTT average")).to_be_visible()
    expect(table).to_contain_text("13 ms")
    assert window.troubles == []


def test_a_zoom_shows_at_once_what_is_known(open_window: Callable[..., Any], world: dict[str, Any]) -> None:
    """While the server still thinks, the chart has the new range, and the next one too."""
    window = open_window()
    page = window.log_in()
    window.open(f"/tests/{world['test']}")
    wait_for_points(page, 26)
    page.get_by_role("button", name="1 h", exact=True).click()
    page.get_by_role("group", name="Chart of Round-trip time").focus()
    with page.expect_response("**/chart.json*"):
        page.keyboard.press("+")
    page.wait_for_timeout(500)
    picture = "document.querySelector('.chart-main canvas').toDataURL()"
    # Zoomed, nothing moves by itself.
    before = page.evaluate(picture)
    page.wait_for_timeout(1200)
    assert page.evaluate(picture) == before
    held: list[Any] = []
    page.route("**/chart.json*", lambda route: held.append(route))
    page.keyboard.press("+")
    page.wait_for_function(f"before => {picture} !== before", arg=before)
    once = page.evaluate(picture)
    page.keyboard.press("+")
    page.wait_for_function(f"before => {picture} !== before", arg=once)
    assert len(held) == 1
    with page.expect_response("**/chart.json*"):
        held[0].continue_()
        page.unroute("**/chart.json*")
    page.keyboard.press("Escape")
    wait_for_points(page, 26)
    assert window.troubles == []


def test_who_drags_in_one_of_several_charts_asks_once(
    open_window: Callable[..., Any], world: dict[str, Any]
) -> None:
    """The others follow the pointer, and the range is one for all."""
    window = open_window()
    page = window.log_in()
    window.open(f"/tests/{world['test']}")
    wait_for_points(page, 26)
    page.get_by_role("button", name="24 h", exact=True).click()
    page.wait_for_timeout(1000)
    assert page.locator(".chart:visible .u-over").count() > 1
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/chart.json" in request.url else None)
    box = page.locator(".chart-main .u-over").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 3, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, middle, steps=4)
    with page.expect_response("**/chart.json*"):
        page.mouse.up()
    page.wait_for_timeout(1000)
    assert len(asked) == 1, asked
    assert window.troubles == []


def test_a_path_that_changed_is_drawn_and_told(open_window: Callable[..., Any], rows: Any) -> None:
    """The chart's summary counts it, the list names it, and the run's page opens and is accessible."""
    place = rows.destination("Router", "192.0.2.1")
    test = rows.test("Way", "traceroute", interval_s=60, destinations=[place])
    job = rows.job(test, rows.worker("edge-1"), place)
    for index, (path_hash, changed) in enumerate(((7, None), (8, True), (8, False))):
        rows.run(job, now(index * 60 - 190), rtt_avg_ms=5.0, path_hash=path_hash, path_changed=changed)
    window = open_window()
    page = window.log_in()
    page.goto(f"{window.address}/tests/{test}")
    wait_for_points(page, 3)
    expect(page.locator("[data-summary]").first).to_contain_text("Path changed.")
    expect(page.locator("#results .tag")).to_have_text(["Path changed"])
    page.locator("#results tbody a").nth(1).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Run of")
    expect(page.get_by_role("rowheader", name="Path hash")).to_be_visible()
    assert violations(page) == []


def test_gaps_are_never_bridged(open_window: Callable[..., Any]) -> None:
    """Where the server knows of a gap the line has a hole; only what was due and lacks in every line is told as silence."""
    window = open_window()
    page = window.log_in()
    found = page.evaluate(
        """async () => {
            const { lineOf, silences, merge } = await import('/static/js/charts/lines.js');
            const t = [0, 2000, 4000, 20000, 22000, 90000];
            const none = [0, 0, 0, 0, 0, 0];
            const gaps = [{from: 6000, to: 20000, missing: true}, {from: 24000, to: 90000, missing: false}];
            const series = {id: 'a', gaps, t, failed: none, error: none, missed: none,
                            metrics: {m: {mean: [1, null, 3, 4, 5, 6]}}, events: [{t: 2000, event: 'e'}, {t: 22000, event: 'e'}]};
            const late = {...series, gaps: [{from: 24000, to: 80000, missing: false}], t: [22000, 80000],
                          failed: [0, 1], error: [0, 0], missed: [0, 0],
                          metrics: {m: {mean: [9, null]}}, events: [{t: 80000, event: 'e'}]};
            const two = [{from: 4000, to: 8000, missing: true}, {from: 8000, to: 15000, missing: true}];
            return {line: lineOf(series, 'm'), silences: silences([series], 0, 100), clipped: silences([series], 7, 19),
                    both: silences([series, {...series, gaps: two}], 0, 100), none: silences([series, {...series, gaps: []}], 0, 100),
                    merged: merge([series], [late], 2000, 7000)[0]};
        }"""
    )
    assert found["line"]["t"] == [0, 2, 4, 6, 20, 22, 24, 90]
    assert found["line"]["value"] == [1, None, 3, None, 4, 5, None, 6]
    assert found["silences"] == [[6, 20]]
    assert found["clipped"] == [[7, 19]]
    assert found["both"] == [[6, 15]]
    assert found["none"] == []
    assert found["merged"]["t"] == [2000, 4000, 20000, 22000, 80000]
    assert found["merged"]["metrics"]["m"]["mean"] == [None, 3, 4, 9, None]
    assert found["merged"]["failed"] == [0, 0, 0, 0, 1]
    assert [event["t"] for event in found["merged"]["events"]] == [2000, 80000]
    assert [(gap["from"], gap["to"]) for gap in found["merged"]["gaps"]] == [(6000, 7000), (24000, 80000)]


def test_what_lacks_is_told_and_what_was_not_due_is_not(open_window: Callable[..., Any], rows: Any) -> None:
    """A minute of every two seconds without runs is named; a pause before it is not."""
    place = rows.destination("Router", "192.0.2.1")
    test = rows.test("Round trip", "ping", destinations=[place])
    job = rows.job(test, rows.worker("edge-1"), place)
    begin = dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(seconds=270)
    every = {"interval_us": 2_000_000, "anchor_us": round(begin.timestamp() * 1e6)}
    rows.version(job, 1, begin, **every)
    rows.version(job, 2, begin + dt.timedelta(seconds=20), **every, paused=True)
    rows.version(job, 3, begin + dt.timedelta(seconds=80), **every)
    for second in (*range(0, 20, 2), *range(80, 100, 2), *range(160, 268, 2)):
        number = 1 if second < 20 else 3
        rows.run(job, begin + dt.timedelta(seconds=second), rtt_avg_ms=10.0, version=number)
    window = open_window()
    page = window.log_in()
    window.open(f"/tests/{test}")
    wait_for_points(page, 70)
    told = page.locator("[data-summary]").first
    expect(told).to_contain_text("Runs were due and none came")
    hole = [(begin + dt.timedelta(seconds=second)).astimezone() for second in (100, 160)]
    clock = page.evaluate(
        "async (times) => { const { clock } = await import('/static/js/charts/format.js');"
        " return times.map((time) => clock(time, { withDate: true })); }",
        [edge.timestamp() for edge in hole],
    )
    expect(told).to_contain_text(f"Runs were due and none came: {clock[0]} to {clock[1]}.")
    assert window.troubles == []


def test_live_updates_recover_by_themselves(
    open_window: Callable[..., Any], world: dict[str, Any], rows: Any, engine: Any
) -> None:
    """The listening connection is cut: what arrived meanwhile appears, and later events are heard again."""
    window = open_window()
    page = window.log_in()
    window.open(f"/tests/{world['test']}")
    expect(page.locator("[data-live-state]")).to_have_text("Live", timeout=15_000)
    wait_for_points(page, 26)
    with engine.begin() as connection:
        cut = connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
        ).all()
    assert len(cut) == 1
    rows.run(world["job"], now(-0.5), rtt_avg_ms=20.0)
    wait_for_points(page, 27)
    expect(page.locator("[data-live-state]")).to_have_text("Live", timeout=15_000)
    rows.run(world["job"], now(), rtt_avg_ms=21.0)
    wait_for_points(page, 28)
    assert window.troubles == []


def test_a_full_server_makes_pages_poll(
    open_window: Callable[..., Any], world: dict[str, Any], rows: Any, app: Any
) -> None:
    """Where every place for a stream is taken the page asks every few seconds, and says so."""
    app.extensions["live"].capacity = 0
    window = open_window()
    page = window.log_in()
    window.open(f"/tests/{world['test']}")
    expect(page.locator("[data-live-state]")).to_have_text("Live, every 5 s", timeout=15_000)
    wait_for_points(page, 26)
    rows.run(world["job"], now(), rtt_avg_ms=20.0)
    wait_for_points(page, 27)


def test_one_stream_serves_all_pages_of_a_browser(
    open_window: Callable[..., Any], world: dict[str, Any], app: Any
) -> None:
    """Browsers allow six connections to a host: three windows share one stream."""
    window = open_window()
    pages = [window.log_in()]
    for _ in range(2):
        another = pages[0].context.new_page()
        another.goto(f"{window.address}/tests/{world['test']}")
        pages.append(another)
    for page in pages:
        expect(page.locator("[data-live-state]")).to_have_text("Live", timeout=15_000)
    assert app.extensions["live"].streams == 1


def test_the_theme_is_a_choice_that_lasts(open_window: Callable[..., Any]) -> None:
    """The system's preference rules until a button is pressed; then the choice holds on every page."""
    window = open_window(color_scheme="dark")
    page = window.log_in()
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.get_by_role("button", name="Use light colours").click()
    light = page.evaluate(background)
    assert dark != light
    window.open("/tests")
    assert page.evaluate(background) == light
    page.get_by_role("button", name="Use dark colours").click()
    assert page.evaluate(background) == dark


def test_deleting_asks_first(open_window: Callable[..., Any], world: dict[str, Any], engine: Any) -> None:
    """The dialog can be left without harm by keyboard, and does what it says when confirmed."""
    window = open_window()
    page = window.log_in()
    window.open(f"/tests/{world['test']}")
    opener = page.get_by_role("button", name="Delete…")
    opener.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Keep it")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(opener).to_be_focused()
    opener.click()
    dialog.get_by_role("button", name="Delete test").click()
    expect(page.get_by_role("heading", name="Tests", level=1)).to_be_visible()
    with Session(engine) as session:
        assert session.get_one(Test, world["test"]).deleted_at is not None


def test_spread_and_loss_are_drawn_as_smoke(open_window: Callable[..., Any], rows: Any) -> None:
    """The middle alone is a line; its classes of loss are in the legend, and the summary tells loss in words."""
    place = rows.destination("Router", "192.0.2.1")
    test = rows.test("Round trip", "ping", destinations=[place])
    job = rows.job(test, rows.worker("edge-1"), place)
    for index, loss in enumerate((0.0, 0.0, 10.0, 0.0, 50.0)):
        rtt = {
            "rtt_min_ms": 8.0,
            "rtt_avg_ms": 11.0,
            "rtt_median_ms": 10.0,
            "rtt_p95_ms": 19.0,
            "rtt_max_ms": 20.0,
        }
        rows.run(job, now(index * 2 - 20), loss_pct=loss, **rtt)
    window = open_window()
    page = window.log_in()
    window.open(f"/tests/{test}")
    wait_for_points(page, 5)
    page.get_by_label("Metric of Round-trip time").select_option(label="spread and loss")
    legend = page.get_by_role("list", name="Series of Round-trip time")
    expect(legend.get_by_role("button")).to_have_text(["RTT median10\u00a0ms"])
    expect(legend).to_contain_text("up to 20 %")
    told = page.locator("[data-summary]").first
    expect(told).to_contain_text("RTT median: 8\u00a0ms to 20\u00a0ms")
    expect(told).to_contain_text("Loss: at most 50\u00a0%, mean 12\u00a0%.")
    assert violations(page) == []
    page.get_by_label("Metric of Round-trip time").select_option(label="all metrics")
    expect(legend.get_by_role("button")).to_have_count(5)
    assert window.troubles == []
