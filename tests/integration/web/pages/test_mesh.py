"""The matrix of who measures whom, and the way from a cell to the chart of that pair alone."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect
from sqlalchemy import Engine, update
from sqlalchemy.orm import Session
from support.axe import violations

from controller.store.commands import workers
from controller.store.commands.audit import SYSTEM
from controller.store.entities import Job
from streamswarm.v1 import probe_pb2


def ago(seconds: float) -> dt.datetime:
    """Return an instant before now."""
    return dt.datetime.now(dt.UTC) - dt.timedelta(seconds=seconds)


@pytest.fixture
def mesh(rows: Any) -> dict[str, Any]:
    """Three hosts that ping each other as `streamswarm fleet mesh` makes it, one pair of them failing."""
    names = ("ams", "ber", "cph")
    workers = {name: rows.worker(name) for name in names}
    places = {name: rows.destination(name, f"192.0.2.{number}") for number, name in enumerate(names, 1)}
    made: dict[str, Any] = {"workers": workers, "places": places, "tests": {}, "jobs": {}}
    for number, name in enumerate(names):
        others = [str(workers[other]) for other in names if other != name]
        test = rows.test(
            f"Mesh all: ping {name}",
            "ping",
            destinations=[places[name]],
            selection={"workers": others},
            tags=["mesh:all:ping"],
        )
        made["tests"][name] = test
        for other in names:
            if other == name:
                continue
            job = made["jobs"][other, name] = rows.job(test, workers[other], places[name])
            if (other, name) == ("ams", "cph"):
                rows.run(
                    job,
                    ago(2),
                    status=probe_pb2.STATUS_FAILED,
                    source=probe_pb2.FAILURE_SOURCE_NETWORK,
                    error="no reply",
                    loss_pct=100.0,
                )
            elif (other, name) != ("ber", "cph"):
                rows.run(job, ago(2), rtt_avg_ms=10.0 + 10 * number, loss_pct=0.0)
    return made


def cell(page: str, label: str) -> str:
    """Return the tag of the cell whose label begins so."""
    (found,) = re.findall(rf'<a class="cell-link"[^>]*aria-label="{re.escape(label)}[^>]*>', page)
    return str(found)


def test_each_pair_is_a_cell(viewer: Any, mesh: dict[str, Any]) -> None:
    """The newest run of each pair, its state in shape and words; nobody measures itself; values are shaded."""
    page = viewer.get("/mesh")
    assert page.count('class="cell-link"') == 6
    assert page.count("<td></td>") == 3
    failed = cell(page, "ams → cph: failed")
    assert 'data-state="failed"' in failed
    assert f'href="/tests/{mesh["tests"]["cph"]}?worker={mesh["workers"]["ams"]}' in failed
    assert 'data-shade="0"' in cell(page, "ber → ams: ok, RTT average 10\u00a0ms")
    assert 'data-shade="4"' in cell(page, "ams → ber: ok, RTT average 20\u00a0ms")
    assert 'data-state="waiting"' in cell(page, "ber → cph: no results yet")
    loss = viewer.fragment("/mesh?tag=mesh:all:ping&kind=ping&metric=loss_pct")
    assert "<html" not in loss
    assert "Loss 100\u00a0%" in cell(loss, "ams → cph")


def test_a_pair_that_failed_and_fell_silent_shows_both(viewer: Any, rows: Any) -> None:
    """What was known last is not hidden by the silence since; of two tests of a pair the one that failed is shown."""
    worker = rows.worker("ams")
    names = ("failing", "unmeasured", "well", "twice")
    places = {name: rows.destination(name, f"192.0.2.{number}") for number, name in enumerate(names, 1)}
    at = ago(600)
    runs = (
        ("failing", probe_pb2.STATUS_FAILED),
        ("unmeasured", probe_pb2.STATUS_ERROR),
        ("well", probe_pb2.STATUS_OK),
        ("twice", probe_pb2.STATUS_OK),
        ("twice", probe_pb2.STATUS_FAILED),
    )
    for number, (name, status) in enumerate(runs):
        test = rows.test(f"T{number}", "ping", destinations=[places[name]])
        source = (
            probe_pb2.FAILURE_SOURCE_NONE
            if status == probe_pb2.STATUS_OK
            else probe_pb2.FAILURE_SOURCE_NETWORK
        )
        rows.run(rows.job(test, worker, places[name]), at, status=status, source=source, loss_pct=50.0)
    page = viewer.get("/mesh?metric=loss_pct")
    since = f"silent since {at:%Y-%m-%d %H:%M}, Loss 50\u00a0%"
    for name, words, mark in (
        ("failing", "failed when last heard, ", "state-failed"),
        ("unmeasured", "not measured when last heard, ", "state-error"),
        ("well", "", None),
        ("twice", "failed when last heard, ", "state-failed"),
    ):
        tag = cell(page, f"ams → {name}: {words}{since}")
        assert 'data-state="stale"' in tag
        inside = page.split(tag, 1)[1].split("</a>", 1)[0]
        assert re.findall(r"#(state-\w+)", inside) == ["state-missed", *([mark] if mark else [])], name


def test_pairs_of_drained_workers_are_shown_as_that(viewer: Any, rows: Any, engine: Engine) -> None:
    """A worker that was taken out of service delivers nothing, which is no fault."""
    worker = rows.worker("ams", connected=False)
    with Session(engine) as session, session.begin():
        workers.note_drained(session, worker, actor=SYSTEM)
    place = rows.destination("shop", "192.0.2.9")
    rows.run(rows.job(rows.test("Shop", "ping", destinations=[place]), worker, place), ago(900), loss_pct=0.0)
    assert 'data-state="drained"' in cell(viewer.get("/mesh"), "ams → shop: workers drained")


def test_what_nobody_measures_says_what_to_do(operator: Any, viewer: Any, rows: Any) -> None:
    """The command that makes a mesh; only operators are offered a new test; an unknown tag is told as that."""
    assert "streamswarm fleet mesh GROUP --kind ping" in operator.get("/mesh")
    assert "New test" in operator.get("/mesh")
    assert "New test" not in viewer.get("/mesh")
    assert "Nobody measures anybody here" in viewer.get("/mesh?tag=nothing&kind=tcp")


def test_a_kind_follows_from_a_tag(viewer: Any, mesh: dict[str, Any], rows: Any) -> None:
    """A tag whose tests are all of one kind shows that, whichever kind was chosen before."""
    place = rows.destination("shop", "192.0.2.9")
    rows.job(rows.test("Shop", "tcp", destinations=[place], tags=["shop"]), mesh["workers"]["ams"], place)
    page = viewer.get("/mesh?tag=shop&kind=ping")
    assert '<option value="tcp" selected>' in page
    assert page.count('class="cell-link"') == 1


def test_what_has_no_room_is_counted(viewer: Any, rows: Any) -> None:
    """The first hundred by name of each side; pairs that are no longer planned are neither shown nor counted."""
    places = [rows.destination(f"to {number:03}", f"192.0.2.{number}") for number in range(102)]
    workers = [rows.worker(f"from {number:03}") for number in range(101)]
    test = rows.test("Many", "ping", destinations=places[:1])
    for place in places:
        rows.job(test, workers[0], place)
    jobs = [rows.job(test, worker, places[0]) for worker in workers[1:]]
    page = viewer.get("/mesh")
    assert page.count('class="cell-link"') == 100 + 99
    assert "no room for 1\u00a0further worker and 2\u00a0further destinations" in page
    rows.execute(update(Job).where(Job.id == jobs[-1]).values(retired_at=ago(10)))
    rows.execute(update(Job).where(Job.id == jobs[0]).values(retired_at=ago(10), one_shot=True))
    page = viewer.get("/mesh")
    assert page.count('class="cell-link"') == 100 + 99
    assert "no room for 0\u00a0further workers and 2\u00a0further destinations" in page


@pytest.mark.browser
def test_from_a_cell_to_its_chart(open_window: Callable[..., Any], mesh: dict[str, Any], rows: Any) -> None:
    """Another metric is chosen without a reload, new runs appear by themselves, and a cell leads to one line's chart."""
    window = open_window()
    page = window.log_in()
    page.get_by_role("link", name="Mesh", exact=True).click()
    expect(page.get_by_role("heading", name="Mesh", level=1)).to_be_visible()
    page.evaluate("window.stayed = true")
    page.get_by_label("Metric").select_option("loss_pct")
    expect(page.get_by_role("link", name="ams → cph")).to_contain_text("100", timeout=30_000)
    expect(page.locator("[data-live-state]")).to_have_text("Live", timeout=30_000)
    page.get_by_label("Metric").select_option("rtt_avg_ms")
    rows.run(mesh["jobs"]["ber", "cph"], ago(0), rtt_avg_ms=77.0)
    expect(page.get_by_role("link", name="ber → cph")).to_contain_text("77", timeout=30_000)
    assert page.evaluate("window.stayed"), "the page must not have been loaded anew"
    assert violations(page) == []
    page.get_by_role("link", name="ber → ams").click()
    expect(page.get_by_text("Drawn is ber → ams alone.")).to_be_visible(timeout=30_000)
    expect(page.locator(".chart-legend").first).to_contain_text("RTT average", timeout=30_000)
    assert "cph → ams" not in page.locator("[data-charts]").inner_text()
    page.get_by_role("link", name="Draw all").click()
    expect(page.locator(".chart-legend").first).to_contain_text("cph → ams", timeout=30_000)
    assert window.troubles == []
