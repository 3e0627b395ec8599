"""An operation that a keeper runs on real hosts: provisioned, written down, and no secret in what is written."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from lab.laboratory import Lab
from sqlalchemy.orm import Session

from controller.keeper import operating
from controller.store.commands import enrolment
from controller.store.commands import operations as commands
from controller.store.commands.audit import Actor
from controller.store.queries import operations
from controller.store.queries.operations import HostCounts

pytestmark = [pytest.mark.hosts, pytest.mark.namespaces, pytest.mark.timeout(300)]

#: Everything that an operation leaves in the database.
WRITTEN = """
SELECT (SELECT json_agg(o) FROM operations o)::text, (SELECT json_agg(h) FROM operation_hosts h)::text,
       (SELECT json_agg(e) FROM operation_events e)::text, (SELECT json_agg(a) FROM audit a)::text
"""


def test_a_keeper_provisions_a_host(
    controller: Any, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the row to a connected worker; its one-time token is nowhere in the rows, though the run used it."""
    tokens: list[str] = []
    make = enrolment.make_enrolment_token

    def kept(*args: Any, **more: Any) -> str:
        tokens.append(make(*args, **more))
        return tokens[-1]

    monkeypatch.setattr(operating, "make_enrolment_token", kept)
    monkeypatch.setenv("STREAMSWARM_BUNDLE_DIR", str(controller.bundle.path.parent))
    settings = dataclasses.replace(controller.settings, inventory=(lab.inventory,))
    with Session(controller.engine) as session, session.begin():
        asked = commands.ask(session, {"kind": "provision", "limit": "host1"}, actor=Actor(name="user:ada"))
    with lab.inside():
        assert operating.operate(controller.engine, settings, asked.id, threading.Event())
    with Session(controller.engine) as session:
        found = operations.get(session, asked.id)
        [host] = operations.hosts_of(session, asked.id)
        events = operations.events_of(session, asked.id, limit=500).items
    assert (found.state, found.error, host.message) == ("succeeded", "", "")
    assert found.hosts == HostCounts(total=1, ok=1, changed=1)
    # Of tasks with a secret Ansible tells only in the end that they changed something.
    assert host.changed > sum(event.state == "changed" for event in events) > 3
    connected = "SELECT host_name FROM workers WHERE gateway_id IS NOT NULL"
    controller.wait_for(connected, [("host1",)], seconds=30)
    [token] = tokens
    written = json.dumps(controller.rows(WRITTEN))
    assert "host1" in written
    assert token not in written
    assert controller.settings.database_url not in written
