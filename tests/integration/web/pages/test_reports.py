"""Pages of reports: the form, the list that follows the making, and the ways in from a test's page."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect
from sqlalchemy import Engine
from sqlalchemy.orm import Session
from support.axe import violations

from controller.reports.make import make_report
from controller.store.commands import reports as commands
from controller.store.queries import reports


def pending(engine: Engine) -> list[int]:
    """Return the reports that are still to come."""
    with Session(engine) as session:
        return [item.id for item in reports.find(session).items if item.pending]


def fail_report(engine: Engine, report_id: int, error: str, mend: str) -> None:
    """End a report as a keeper does that cannot make it."""
    with Session(engine) as session, session.begin():
        taken = commands.take_up(session, report_id)
        assert taken is not None
        commands.fail(session, report_id, taken[1], error=error, mend=mend)


def test_a_report_is_asked_for_with_the_form(operator: Any, rows: Any, engine: Engine) -> None:
    """It waits in the list, which asks again by itself; what failed tells why, and names are text."""
    test = rows.test("<b>Uptime</b>", "system")
    page = operator.get(f"/reports?test={test}")
    assert re.search(rf'value="{test}" checked', page)
    assert "No reports yet" in page
    answer = operator.post("/reports", {"tests": [str(test)], "last": "7d"}, form="/reports")
    assert answer.status_code == 302
    (report,) = pending(engine)
    waiting = operator.fragment("/reports")
    assert "&lt;b&gt;Uptime&lt;/b&gt;" in waiting
    assert 'hx-trigger="load delay:1s"' in waiting
    fail_report(engine, report, "printing took longer than <1> s", "ask for less")
    failed = operator.fragment("/reports")
    assert "printing took longer than &lt;1&gt; s: ask for less" in failed
    assert "hx-trigger" not in failed
    assert "PDF" not in failed
    assert operator.post(f"/reports/{report}/delete", form="/reports").status_code == 302
    assert "No reports yet" in operator.get("/reports")


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        ({"last": "7d"}, "must name at least one test"),
        ({"tests": "4711", "last": "7d"}, "there is no test 4711"),
        ({"tests": "x", "last": "7d"}, "must be an id"),
        ({"last": "custom"}, "must name at least one test"),
        ({"last": "custom", "from": "soon"}, "must be an instant"),
        ({"last": "1y"}, "must be a number of hours or days"),
    ],
)
def test_a_form_that_is_not_right_says_where(
    operator: Any, rows: Any, sent: dict[str, str], problem: str
) -> None:
    """Each fault stands at its field, and nothing is asked for."""
    rows.test("Uptime", "system")
    answer = operator.post("/reports", sent, form="/reports")
    assert answer.status_code == 422
    text = answer.get_data(as_text=True)
    assert problem in text
    assert "No reports yet" in text


def test_a_chosen_test_is_listed_however_far_down_it_is(
    operator: Any, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The form lists the first tests by name; the one that a link names is among them, and ticked."""
    monkeypatch.setattr("web.pages.reports._MOST_TESTS", 1)
    first, last, _ = (rows.test(name, "system") for name in ("a", "z", "b"))
    page = operator.get(f"/reports?test={last}&test=x")
    found = re.findall(r'name="tests" value="(\d+)"( checked)?>', page)
    assert found == [(str(first), ""), (str(last), " checked")]


def test_a_viewer_sees_reports_and_makes_none(viewer: Any, rows: Any) -> None:
    """No form, no buttons; the export of a test is there for everybody."""
    test = rows.test("Uptime", "system")
    page = viewer.get("/reports")
    assert "Make report" not in page
    assert "Operators have them made here" in page
    about = viewer.get(f"/tests/{test}")
    assert f"/api/v1/tests/{test}/results.csv" in about
    assert f"/reports?test={test}" not in about


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_from_a_test_to_the_pdf(
    open_window: Callable[..., Any], rows: Any, engine: Engine, scheme: str
) -> None:
    """A click on a test's page, the form, the list that turns ready by itself, the file; CSV of what is shown."""
    worker = rows.worker("edge-1")
    test = rows.test("Uptime", "system")
    rows.test("Another test", "system")
    job = rows.job(test, worker)
    now = dt.datetime.now(dt.UTC)
    for index in range(10):
        rows.run(job, now - dt.timedelta(seconds=100 + 2 * index), cpu_busy_pct=20.0 + index)
    window = open_window(color_scheme=scheme, accept_downloads=True)
    page = window.log_in()
    window.open(f"/tests/{test}")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV", exact=True).click()
    assert download.value.suggested_filename.endswith(".csv")
    assert re.search(r"from=.*&to=", download.value.url)
    lines = download.value.path().read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("test,worker,destination")
    assert len(lines) == 11
    page.get_by_role("link", name="Report", exact=True).click()
    expect(page.get_by_role("heading", name="Reports", level=1)).to_be_visible()
    expect(page.get_by_role("checkbox", name="Uptime")).to_be_checked()
    expect(page.locator("#field-from-shown")).to_be_hidden()
    page.get_by_role("radio", name="From … to").check()
    expect(page.locator("#field-from-shown")).to_be_visible()
    assert violations(page) == []
    page.get_by_role("radio", name="Last 7 days").check()
    page.get_by_role("button", name="Make report").click()
    expect(page.locator("#rows")).to_contain_text("waiting")
    (report,) = pending(engine)
    page.evaluate("window.stayed = true")
    assert make_report(engine, report)
    link = page.get_by_role("link", name=f"PDF of report {report}")
    expect(link).to_be_visible(timeout=15_000)
    assert page.evaluate("window.stayed"), "the list must follow without a reload"
    with page.expect_download() as download:
        link.click()
    assert download.value.path().read_bytes().startswith(b"%PDF-")
    page.get_by_role("radio", name="Last 24 hours").check()
    page.get_by_role("checkbox", name="Uptime").check()
    page.get_by_role("button", name="Make report").click()
    (failing,) = pending(engine)
    fail_report(engine, failing, "printing took longer than 120 s and was ended", "ask for a shorter range")
    expect(page.locator("#rows")).to_contain_text("printing took longer than 120 s", timeout=15_000)
    assert violations(page) == []
    page.set_viewport_size({"width": 390, "height": 850})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1280, "height": 900})
    page.get_by_role("button", name=f"Delete report {report}").click()
    expect(page.locator("#rows")).not_to_contain_text(f"Report {report} ·")
    assert window.troubles == []
