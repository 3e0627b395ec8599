"""How often a page asks the database: as often for tests of all kinds as for one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session
from support.statements import heard

from controller.store.entities import Test
from streamswarm import contract
from streamswarm.v1 import probe_pb2


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
def test_no_more_is_asked_for_many_kinds(viewer: Any, add: Callable[[str], None], path: str) -> None:
    """Twenty tests instead of two, of all kinds instead of one."""
    add("ping")
    viewer.get(path)
    with heard(Engine) as once:
        viewer.get(path)
    for kind in contract.kinds():
        if kind != "ping":
            add(kind)
    with heard(Engine) as asked:
        page = viewer.get(path)
    assert len(asked) == len(once) > 0
    assert path == "/reports" or "ping" in page
