"""Records as the database gives them, of what nobody has to store first."""

from __future__ import annotations

import datetime as dt
from typing import Any

from controller.store.queries.tests import TestRecord

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)


def a_test(**more: Any) -> TestRecord:
    """Return an active ping test that runs every 10 s on one job."""
    values: dict[str, Any] = {
        "id": 1,
        "name": "t",
        "description": "",
        "kind": "ping",
        "spec": {},
        "destinations": (),
        "selection": {"all": True},
        "tags": (),
        "interval_s": 10.0,
        "starts_at": None,
        "ends_at": None,
        "paused": False,
        "jobs": 1,
        "version": 1,
        "planned_version": 1,
        "created_by": "",
        "created_at": NOW,
        "updated_at": NOW,
    }
    return TestRecord(**(values | more))
