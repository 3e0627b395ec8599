"""Upgrades that keepers run: which operations they leave behind. The playbooks' part is played here; hosts have theirs."""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, update
from sqlalchemy.orm import Session
from support.keepers import World

from controller.fleet import operations as playbooks
from controller.fleet.events import HostRecap, TaskEvent, TaskState
from controller.fleet.operations import PlaybookRequest, Recap
from controller.keeper.operating import operate
from controller.settings import Settings
from controller.store.commands import operations as commands
from controller.store.commands.audit import Actor
from controller.store.entities import Process, Worker
from controller.store.queries import operations
from controller.store.queries.operations import HostCounts, OperationRecord

SHE = Actor(name="user:ada")
OLD, NEW = "1.0", "2.0"


class Hosts:
    """Hosts with a release each, which the playbooks change; their workers connect at once."""

    def __init__(self, world: World, names: str) -> None:
        self.releases = dict.fromkeys(names, OLD)
        #: Those that the playbook fails on, and those whose worker does not come back.
        self.broken: set[str] = set()
        self.mute: set[str] = set()
        self.returned: list[tuple[str, str]] = []
        self.reason = f"the release {NEW} was taken back: no"
        self._engine = world.engine
        with Session(self._engine) as session, session.begin():
            gateway = Process(role="gateway", name="gateway", host_name="here", pid=1, version=OLD)
            session.add(gateway)
            session.flush()
            self._gateway = gateway.id
        for name in names:
            world.worker(name)
            self._connect(name)

    def upgrade(
        self,
        request: PlaybookRequest,
        *,
        on_event: Callable[[TaskEvent], None] = lambda _: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Recap:
        """Say what would be done, or do it."""
        self._beat()
        recaps = []
        for host in request.limit.split(",") if request.limit else sorted(self.releases):
            before = self.releases[host]
            note = f"has {NEW} already" if before == NEW else f"{before} → {NEW}"
            broken = host in self.broken and not request.check
            on_event(TaskEvent(host=host, task="Switch", state=TaskState.CHANGED))
            if not request.check and not broken:
                self.releases[host] = NEW
                if host not in self.mute:
                    self._connect(host)
            recaps.append(recap(host, note, why=self.reason if broken else ""))
        return Recap(hosts=tuple(recaps), cancelled=cancelled())

    def roll_back(self, request: PlaybookRequest, *, bad_release: str, **_: Any) -> Recap:
        """Return hosts."""
        self.returned.append((request.limit, bad_release))
        hosts = request.limit.split(",")
        self.releases.update(dict.fromkeys(hosts, OLD))
        return Recap(hosts=tuple(recap(host, f"{NEW} → {OLD}") for host in hosts))

    def _beat(self) -> None:
        """Let the gateway live on, however long a busy machine takes for a test."""
        with Session(self._engine) as session, session.begin():
            session.execute(
                update(Process).where(Process.id == self._gateway).values(heartbeat_at=func.now())
            )

    def _connect(self, host: str) -> None:
        now = dt.datetime.now(dt.UTC)
        with Session(self._engine) as session, session.begin():
            session.execute(
                update(Worker)
                .where(Worker.host_name == host)
                .values(version=self.releases[host], connected_at=now, gateway_id=self._gateway)
            )


def recap(host: str, note: str, *, why: str = "") -> HostRecap:
    """Say how a host came out of it."""
    return HostRecap(
        host=host,
        ok=1,
        changed=int("already" not in note),
        failed=int(bool(why)),
        unreachable=False,
        message=why,
        notes=(note,),
    )


@pytest.fixture
def its(settings: Settings, tmp_path: Path) -> Settings:
    """Settings with an inventory of three hosts."""
    inventory = tmp_path / "hosts.ini"
    inventory.write_text("[workers]\na\nb\nc\n")
    return dataclasses.replace(settings, inventory=(inventory,))


@pytest.fixture
def hosts(world: World, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    """Three hosts that the playbooks work on."""
    made = Hosts(world, "abc")
    monkeypatch.setattr(playbooks, "upgrade", made.upgrade)
    monkeypatch.setattr(playbooks, "roll_back", made.roll_back)
    return made


def ran(
    engine: Engine, settings: Settings, **values: Any
) -> tuple[OperationRecord, dict[str, str], list[str]]:
    """Run an upgrade; returns it, the state of each host, and what was said of the whole."""
    with Session(engine) as session, session.begin():
        asked = commands.ask(session, {"kind": "upgrade", **values}, actor=SHE)
    assert operate(engine, settings, asked.id, threading.Event())
    with Session(engine) as session:
        found = operations.get(session, asked.id)
        hosts = {host.host: host.state for host in operations.hosts_of(session, asked.id)}
        events = operations.events_of(session, asked.id, limit=500).items
    return found, hosts, [event.task for event in events if not event.host]


def test_it_goes_through_the_plan(engine: Engine, its: Settings, hosts: Hosts) -> None:
    """Canary, then the others; each host is told once it is done, and the log has the steps."""
    options = {"patience": 0, "accept_inconclusive": True}
    found, states, log = ran(engine, its, options=options)
    assert (found.state, found.error, states) == ("succeeded", "", dict.fromkeys("abc", "ok")), log
    assert found.hosts == HostCounts(total=3, ok=3, changed=3)
    assert set(hosts.releases.values()) == {NEW}
    assert log[:5] == [
        "canary: a: 1.0 → 2.0",
        "batch 1 of 1: b: 1.0 → 2.0",
        "batch 1 of 1: c: 1.0 → 2.0",
        "canary: a",
        "canary: connected again with the release, and delivering",
    ]
    again, states, log = ran(engine, its, options=options)
    assert (again.state, states, log) == (
        "succeeded",
        dict.fromkeys("abc", "ok"),
        ["has the release already, and is not judged by this upgrade: a, b, c"],
    )


def test_a_check_run_says_what_would_be_done(engine: Engine, its: Settings, hosts: Hosts) -> None:
    """And does nothing."""
    found, states, log = ran(engine, its, check=True, limit="a,b", options={"canary": 0, "batch": 1})
    assert (found.state, log[0]) == ("succeeded", "batch 1 of 2: a: 1.0 → 2.0")
    assert states == dict.fromkeys("ab", "ok")
    assert set(hosts.releases.values()) == {OLD}


def test_too_little_to_compare_pauses_it(engine: Engine, its: Settings, hosts: Hosts) -> None:
    """The canary keeps the release, the others were not begun, and the words say what to do."""
    found, states, _ = ran(engine, its, options={"patience": 0})
    assert (found.state, states) == ("failed", {"a": "ok", "b": "waiting", "c": "waiting"})
    assert "canary: inconclusive: too little to compare" in found.error
    assert "--accept-inconclusive" in found.mend
    assert hosts.releases == {"a": NEW, "b": OLD, "c": OLD}


def test_a_canary_that_was_left_is_judged_by_the_next_one(
    engine: Engine, its: Settings, hosts: Hosts
) -> None:
    """Whatever ended the first before it was judged, here a pause; once it is judged it is not judged again."""
    first, _, _ = ran(engine, its, options={"patience": 0})
    assert first.state == "failed"
    options = {"patience": 0, "accept_inconclusive": True}
    second, states, log = ran(engine, its, options=options)
    assert (second.state, states) == ("succeeded", dict.fromkeys("abc", "ok")), log
    assert (
        f"has the release since operation {first.id}, which ended before it was judged, and is judged first: a"
        in log
    )
    assert f"left by operation {first.id}: a: has the release, which nobody judged there; judged now" in log
    with Session(engine) as session:
        judged = operations.find(session, host="a", kind="judge").items
        [report, *_] = operations.events_of(session, judged[0].id, limit=10).items
    assert [each.state for each in judged] == ["succeeded", "failed"]
    assert [each.part_of for each in judged] == [second.id, first.id]
    assert (first.part_of, second.part_of) == (None, None)
    assert judged[1].error.startswith("canary: inconclusive: too little to compare")
    assert (report.host, report.task) == ("a", f"What {NEW} measures")
    for _ in range(2):
        _, _, log = ran(engine, its, options=options)
        assert log == ["has the release already, and is not judged by this upgrade: a, b, c"]


def test_what_is_returned_is_an_operation_of_its_own(engine: Engine, its: Settings, hosts: Hosts) -> None:
    """The keeper's too, though the upgrade holds the same host; so that the history knows which release was bad."""
    hosts.mute = {"a"}
    found, states, log = ran(engine, its, options={"patience": 0})
    assert found.state == "failed"
    assert found.error == "canary: a: its worker has not connected again within 0 s"
    assert (hosts.returned, hosts.releases["a"]) == ([("a", NEW)], OLD)
    assert "canary: returning a to the release before" in log
    assert states == {"a": "ok", "b": "waiting", "c": "waiting"}
    with Session(engine) as session:
        newest = operations.find(session, host="a").items[0]
        assert operations.find(session, part_of=found.id).items == (newest,)
    assert (newest.kind, newest.state, newest.by_keeper, newest.made_by) == (
        "rollback",
        "succeeded",
        True,
        "user:ada",
    )
    assert newest.id > found.id


@pytest.mark.parametrize(
    ("reason", "returned"), [(f"the release {NEW} was taken back: no", []), ("broken off", [("b", NEW)])]
)
def test_a_host_that_fails_stops_it(
    engine: Engine, its: Settings, hosts: Hosts, reason: str, returned: list[tuple[str, str]]
) -> None:
    """It is returned unless it says that it moved back itself; it has failed all the same, and the reason stands in both places."""
    hosts.broken, hosts.reason = {"b"}, reason
    found, states, _ = ran(
        engine, its, options={"canary": 1, "batch": 1, "patience": 0, "accept_inconclusive": True}
    )
    assert (found.state, found.error) == ("failed", f"batch 1 of 2: b: {reason}")
    assert states == {"a": "ok", "b": "failed", "c": "waiting"}
    assert (hosts.returned, hosts.releases) == (returned, {"a": NEW, "b": OLD, "c": OLD})


def test_its_hosts_are_its_own(engine: Engine, its: Settings, hosts: Hosts) -> None:
    """Another operation on one of them is refused while it runs, with the number of the one that works there."""
    with Session(engine) as session, session.begin():
        other = commands.begin(session, {"kind": "verify", "hosts": ["b"]}, actor=SHE)
    found, _, _ = ran(engine, its, options={"patience": 0})
    assert (found.state, found.error) == ("failed", f"operation {other.id} (verify) works on b now")
    assert set(hosts.releases.values()) == {OLD}
