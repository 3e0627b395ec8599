"""Every page in a real browser, as each role: it works, asks nobody else, is accessible in both themes, fits any width."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Page, expect
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session
from support.axe import violations
from support.pages import PARTS, pages_of

from controller.store.commands import operations, tokens
from controller.store.commands.audit import SYSTEM, Actor
from controller.store.entities import Job
from controller.store.queries import users
from controller.store.queries.users import ROLES, allows
from streamswarm.v1 import probe_pb2
from streamswarm.zones import to_microseconds
from web.auth.roles import PUBLIC, needed_role

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

WIDTHS = (390, 768, 1600)
#: Kinds whose runs are pictures, with what makes them so.
PICTURED: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    ("http", {"dns_ms": 3.0, "connect_ms": 12.0, "ttfb_ms": 40.0, "transfer_ms": 8.0, "total_ms": 63.0}, {}),
    (
        "traceroute",
        {"rtt_avg_ms": 12.0},
        {
            "hops": [
                {
                    "hop": 1,
                    "result": [{"from": "10.0.0.1", "rtt": 0.4}, {"from": "10.0.0.1", "rtt": 0.9, "flow": 1}],
                },
                {
                    "hop": 2,
                    "result": [
                        {"from": "10.9.0.1", "rtt": 5.1, "name": "a.router.example.org"},
                        {"from": "2001:db8:1234:5678:9abc:def0:1234:5678", "rtt": 6.5, "flow": 1},
                    ],
                },
                {"hop": 3, "result": [{"x": "*"}, {"x": "*", "flow": 1}]},
                {"hop": 4, "result": [{"from": "192.0.2.1", "rtt": 12.0}, {"x": "*", "flow": 1}]},
            ]
        },
    ),
    (
        "tcp_window",
        {"dns_ms": 3.0, "connect_ms": 12.0},
        {
            "timeline": {
                "t_ms": [0, 50, 100],
                "rtt_ms": [10, 12, 30],
                "cwnd": [10, 20, 15],
                "bytes": [0, 9000, 20000],
            }
        },
    ),
)


@pytest.fixture
def world(rows: Any, engine: Engine, make_user: Callable[..., None]) -> dict[str, Any]:
    """Something of everything: ids by the name that they have in paths."""
    edge = rows.worker("edge-1", site="ams", groups=["edge"], labels={"rack": "7"})
    kinds = {"ping": {"available": False, "reason": "no ICMP sockets here", "mend": "sysctl -w it"}}
    rows.worker("edge-2", kinds=kinds)
    rows.worker("gone", connected=False)
    place = rows.destination("Router", "192.0.2.1")
    test = rows.test("Round trip", "ping", destinations=[place])
    job = rows.job(test, edge, place)
    begin = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=62)
    for index in range(30):
        if not 10 <= index < 15:
            at = begin + dt.timedelta(seconds=2 * index)
            rows.run(job, at, rtt_avg_ms=10 + index % 4, rtt_min_ms=9, loss_pct=0.0)
    rows.run(
        job,
        begin + dt.timedelta(seconds=61),
        status=probe_pb2.STATUS_FAILED,
        source=probe_pb2.FAILURE_SOURCE_NETWORK,
        error="no reply within 1000 ms",
    )
    more = []
    for kind, metrics, detail in PICTURED:
        aim = [rows.destination(f"For {kind}", "http://192.0.2.9/")] if kind != "traceroute" else [place]
        pictured = rows.test(f"Pictured {kind}", kind, destinations=aim)
        rows.run(rows.job(pictured, edge, aim[0]), begin, detail=detail, **metrics)
        more += [f"/tests/{pictured}", run_path(pictured, rows, begin)]
    for role in ROLES:
        make_user(f"the-{role}", role)
    with Session(engine) as session, session.begin():
        operation = operations.begin(
            session, {"kind": "verify", "hosts": ["edge-1"]}, actor=Actor(name="user:ada")
        ).id
        user = users.by_name(session, "the-viewer")
        assert user is not None
        made = {
            role: tokens.create(
                session,
                {"name": "ci", "scope": "viewer"},
                actor=SYSTEM,
                user_id=users.by_name(session, f"the-{role}").id,
                role=role,
            )[0].id
            for role in ROLES
        }
    return {
        "test_id": test,
        "job_id": job,
        "at_us": to_microseconds(begin),
        "worker_id": edge,
        "destination_id": place,
        "operation_id": operation,
        "user_id": user.id,
        "token_id": made["viewer"],
        #: Others' tokens do not exist for anybody but administrators.
        "token_of": made,
        "name": "ping",
        "more": more,
    }


def run_path(test: int, rows: Any, at: dt.datetime) -> str:
    """Return the path of a test's only run."""
    with Session(rows.engine) as session:
        job = session.scalars(select(Job.id).where(Job.test_id == test)).one()
    return f"/tests/{test}/jobs/{job}/runs/{to_microseconds(at)}"


def every_page(app: Flask, world: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield path and needed role of every page of the world."""
    yield from pages_of(app, world)
    for path in world["more"]:
        yield path, "viewer"


def settle(page: Page) -> None:
    """Wait until the page has drawn its charts, if it has any."""
    if page.locator("[data-charts]").count():
        expect(page.locator("[data-charts]")).to_have_attribute(
            "data-points", re.compile(r"\d"), timeout=15_000
        )
    page.wait_for_timeout(100)


@pytest.mark.parametrize("role", ROLES)
def test_every_page_works(
    open_window: Callable[..., Any], app: Flask, world: dict[str, Any], role: str
) -> None:
    """As each role: the page has its heading, the console is silent, and nothing is asked of another host."""
    window = open_window()
    page = window.log_in(f"the-{role}")
    seen = 0
    for path, needed in every_page(app, world | {"token_id": world["token_of"][role]}):
        if allows(role, needed):
            window.open(path)
            settle(page)
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            assert window.troubles == [], path
            seen += 1
    assert seen > 10


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_every_page_is_accessible(
    open_window: Callable[..., Any], app: Flask, world: dict[str, Any], scheme: str
) -> None:
    """Axe finds nothing on any page, in dark and in light."""
    window = open_window(color_scheme=scheme)
    found = {"/login": violations(window.open("/login"))}
    page = window.log_in()
    for path, _ in every_page(app, world):
        window.open(path)
        settle(page)
        found[path] = violations(page)
    window.page.goto(f"{window.address}/nowhere")
    found["/nowhere"] = violations(page)
    assert {path: items for path, items in found.items() if items} == {}


@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_is_wider_than_the_window(
    open_window: Callable[..., Any], app: Flask, world: dict[str, Any], width: int
) -> None:
    """From a telephone to a wide screen no page scrolls sideways, and the menu can be reached."""
    window = open_window(viewport={"width": width, "height": 850})
    page = window.log_in()
    wider = []
    for path, _ in every_page(app, world):
        window.open(path)
        settle(page)
        if page.evaluate("document.documentElement.scrollWidth") > width:
            wider.append(path)
    assert wider == []
    if width < 900:
        page.get_by_role("button", name="Menu").click()
    page.get_by_role("link", name="Destinations", exact=True).click()
    expect(page.get_by_role("heading", name="Destinations", level=1)).to_be_visible()


def test_what_is_public_is_not_a_page(app: Flask) -> None:
    """The list of pages above would leave nothing out: only logging in is open to everybody."""
    public = {name for name in app.view_functions if needed_role(app, name) == PUBLIC}
    assert not {name for name in public if name.startswith("pages.")}
    assert set(app.view_functions) >= PARTS
