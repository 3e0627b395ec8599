"""How often a page asks the database: as often for tests of all kinds as for one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from controller.store.entities import Test
from streamswarm import contract
from streamswarm.v1 import probe_pb2


@pytest.fixture
def asked() -> Iterator[list[str]]:
    """The statements that are run from now on."""
    found: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        found.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield found
    event.remove(Engine, "before_cursor_execute", note)


@pytest.fixture
def add(engine: Engine, rows: Any) -> Callable[[str], None]:
    """Makes two tests of a kind with a run each, one of which failed a moment ago."""
    worker, place = rows.worker("ams"), rows.destination("shop", "192.0.2.9")

    def make(kind: str) -> None:
        at = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=3)
        for status in (probe_pb2.STATUS_OK, probe_pb2.STATUS_FAILED):
            with Session(engine, expire_on_commit=False) as session, session.begin():
                test = Test(name=f"{kind} {status}", kind=kind, spec={}, interval_s=2)
                session.add(test)
            job = rows.job(test.id, worker, None if contract.kind(kind).target == "none" else place)
            rows.run(job, at, status=status, source=probe_pb2.FAILURE_SOURCE_TARGET * (status - 1))

    return make


@pytest.mark.parametrize("path", ["/", "/overview/live", "/tests", "/mesh", "/reports"])
def test_no_more_is_asked_for_many_kinds(
    viewer: Any, asked: list[str], add: Callable[[str], None], path: str
) -> None:
    """Twenty tests instead of two, of all kinds instead of one."""
    add("ping")
    viewer.get(path)
    asked.clear()
    viewer.get(path)
    once = len(asked)
    for kind in contract.kinds():
        if kind != "ping":
            add(kind)
    asked.clear()
    page = viewer.get(path)
    assert len(asked) == once > 0
    assert path == "/reports" or "ping" in page
