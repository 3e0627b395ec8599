"""Rows of repeated groups on a test's page: their data, and how a browser draws them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect
from sqlalchemy import text
from support.axe import violations

from controller.store.queries import children
from streamswarm.v1 import probe_pb2


def ago(seconds: float) -> dt.datetime:
    """Return the instant so many seconds ago."""
    return dt.datetime.now(dt.UTC) - dt.timedelta(seconds=seconds)


def hops(count: int, *, rtt_ms: float = 1.0) -> dict[str, dict[str, dict[str, Any]]]:
    """Return rows of hops, each further away than the one before; the second gives no answer."""
    return {
        "hops": {
            f"{number:02}": {
                "rtt_avg_ms": None if number == 2 else rtt_ms * number,
                "loss_pct": 100.0 if number == 2 else 0.0,
            }
            for number in range(1, count + 1)
        }
    }


@pytest.fixture
def way(rows: Any) -> tuple[int, dict[str, str]]:
    """A trace from two workers, of which the second sees more hops; each with three runs."""
    place = rows.destination("Router", "192.0.2.1")
    test = rows.test("Way", "traceroute", interval_s=60, destinations=[place])
    lines = {}
    for name, count in (("edge-1", 4), ("edge-2", 30)):
        worker = rows.worker(name)
        job = rows.job(test, worker, place)
        lines[name] = f"{worker} {place}"
        for index in range(3):
            status = probe_pb2.STATUS_FAILED if index == 1 else probe_pb2.STATUS_OK
            found = None if index == 1 else hops(count - index)
            rows.run(job, ago(190 - index * 60), status=status, rtt_avg_ms=5.0, children=found)
    return test, lines


def ask(operator: Any, test: int, **more: Any) -> Any:
    """Ask as a page does."""
    query = {
        "child": "hops",
        "from": round(ago(300).timestamp() * 1000),
        "to": round(ago(0).timestamp() * 1000),
        "metrics": "rtt_avg_ms,loss_pct",
        **more,
    }
    return operator.client.get(f"/tests/{test}/rows.json", query_string=query)


def test_rows_share_the_instants_of_the_runs(operator: Any, way: Any) -> None:
    """The first line unless another is named; a run without the hop is None, and how runs ended stands once."""
    test, lines = way
    found = ask(operator, test).get_json()
    assert (found["line"], found["total"], found["first"], found["step"]) == ("edge-1 → Router", 4, 0, 0)
    assert (found["failed"], len(found["t"]), found["gaps"]) == ([0, 1, 0], 3, [])
    assert [row["label"] for row in found["rows"]] == ["hop 1", "hop 2", "hop 3", "hop 4"]
    assert [row["metrics"]["rtt_avg_ms"]["mean"] for row in found["rows"]] == [
        [1.0, None, 1.0],
        [None, None, None],
        [3.0, None, None],
        [4.0, None, None],
    ]
    other = ask(operator, test, line=lines["edge-2"]).get_json()
    assert (other["line"], other["total"], len(other["rows"])) == ("edge-2 → Router", 30, 24)


def test_more_rows_than_can_be_told_apart_come_in_turns(operator: Any, way: Any) -> None:
    """What lies beyond the last turn is the last turn."""
    test, lines = way
    found = ask(operator, test, line=lines["edge-2"], first="24").get_json()
    assert [row["id"] for row in found["rows"]] == ["25", "26", "27", "28", "29", "30"]
    beyond = ask(operator, test, line=lines["edge-2"], first="4800").get_json()
    assert (beyond["first"], beyond["rows"]) == (24, found["rows"])


def test_rows_without_end_are_cut_off(operator: Any, way: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first are listed, and it is said that there are more."""
    test, _ = way
    assert ask(operator, test).get_json()["more"] is False
    monkeypatch.setattr(children, "MOST_KEYS", 3)
    found = ask(operator, test).get_json()
    assert (found["total"], found["more"], len(found["rows"])) == (3, True, 3)


def test_beyond_the_retention_of_results_rows_come_in_hours(operator: Any, way: Any, engine: Any) -> None:
    """A bucket has mean and extremes of each row, and a row that it lacks is None."""
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO expiries (kind, layer, gone_before) VALUES ('traceroute', 'raw', now())")
        )
    found = ask(operator, way[0]).get_json()
    assert (found["step"], found["total"]) == (3_600_000, 4)
    (first, second, *_) = (row["metrics"]["rtt_avg_ms"] for row in found["rows"])
    for part in ("mean", "low", "high"):
        assert {value for value in first[part] if value is not None} == {1.0}
        assert set(second[part]) == {None}
        assert len(first[part]) == len(found["t"])


def test_a_test_without_a_line_has_no_rows(operator: Any, rows: Any) -> None:
    """Before it is planned there is nothing, and nothing is made up."""
    test = rows.test("Way", "traceroute", destinations=[rows.destination("Router", "192.0.2.1")])
    found = ask(operator, test).get_json()
    assert (found["total"], found["rows"], found["t"]) == (0, [], [])


def test_what_cannot_be_asked_is_refused(operator: Any, way: Any) -> None:
    """Unknown groups, metrics, lines and turns."""
    for query in (
        {"child": "disks"},
        {"child": ""},
        {"metrics": "path_hash"},
        {"line": "4711"},
        {"first": "-1"},
        {"from": "x"},
    ):
        assert ask(operator, way[0], **query).status_code == 422, query


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_hops_are_drawn_each_by_itself(
    open_window: Callable[..., Any], way: Any, rows: Any, scheme: str
) -> None:
    """A line for each hop of the chosen worker; more rows on a button, with a note which are shown; accessible."""
    test, _ = way
    window = open_window(color_scheme=scheme)
    page: Page = window.log_in()
    page.goto(f"{window.address}/tests/{test}")
    shown = page.locator("[data-shown]")
    expect(shown).to_have_text("edge-1 → Router: hop 1 to hop 4 (all 4).")
    chart = page.get_by_role("group", name="Chart of Hop round-trip time")
    expect(chart.locator("canvas")).to_have_count(1)
    legend = page.get_by_role("list", name="Series of Hop round-trip time")
    expect(legend.locator("button span")).to_have_text(["hop 1", "hop 3", "hop 4"])
    loss = page.get_by_role("list", name="Series of Hop loss")
    expect(loss.get_by_role("button")).to_have_count(4)
    expect(page.locator("#summary-hops-hop-loss")).to_contain_text("Runs: 1 failed.")

    page.get_by_label("Worker and destination of Hops").select_option(label="edge-2 → Router")
    expect(shown).to_have_text("edge-2 → Router: hop 1 to hop 24 (rows 1 to 24 of 30).")
    page.get_by_role("button", name="More rows").click()
    expect(shown).to_have_text("edge-2 → Router: hop 25 to hop 30 (rows 25 to 30 of 30).")
    expect(page.get_by_role("button", name="More rows")).to_be_disabled()
    page.get_by_role("button", name="Rows before").click()
    expect(loss.get_by_role("button")).to_have_count(24)

    page.get_by_text("More of hops").click()
    expect(page.get_by_role("group", name="Chart of Hop network")).to_be_visible()
    page.get_by_role("button", name="1 h", exact=True).click()
    expect(loss.get_by_role("button")).to_have_count(24)
    assert violations(page) == []
    assert window.troubles == []


@pytest.mark.browser
def test_a_server_in_trouble_is_asked_again_at_one_pace(open_window: Callable[..., Any], way: Any) -> None:
    """Charts and rows that both fail begin one new attempt after five seconds, not one each; the page says what is wrong."""
    window = open_window()
    page: Page = window.log_in()
    asked: list[str] = []

    def refuse(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(status=503, body="")

    page.clock.install()
    page.route("**/chart.json*", refuse)
    page.route("**/rows.json*", refuse)
    page.goto(f"{window.address}/tests/{way[0]}")
    expect(page.locator("[data-trouble]")).to_contain_text("the server answered 503")
    before = len(asked)
    for _ in range(5):
        page.clock.run_for(5_000)
        page.wait_for_timeout(150)
    assert 5 <= len(asked) - before <= 2 * 6, asked
    page.unroute("**/chart.json*")
    page.unroute("**/rows.json*")
    page.clock.run_for(5_000)
    expect(page.locator("[data-trouble]")).to_be_hidden()
    expect(page.locator("[data-shown]")).to_contain_text("hop 1 to hop 4")
