"""Operations that keepers run: real Ansible on a host that is not there, or that never answers."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session
from support.keepers import Keepers

from controller.keeper.operating import operate
from controller.settings import Settings
from controller.store.commands import operations as commands
from controller.store.commands.audit import Actor
from controller.store.queries import operations
from controller.store.queries.operations import OperationRecord

SHE = Actor(name="user:ada")


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where connections are taken and nothing is ever said, as a host does that hangs."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        yield server.getsockname()[1]


def inventory(folder: Path, port: int) -> Path:
    """Write an inventory with one host."""
    path = folder / "hosts.ini"
    path.write_text(f"[workers]\nhost1 ansible_host=127.0.0.1 ansible_port={port} ansible_user=nobody\n")
    return path


def ask(engine: Engine, **values: Any) -> int:
    """Ask for a check run of provisioning."""
    with Session(engine) as session, session.begin():
        return commands.ask(session, {"kind": "provision", "check": True, **values}, actor=SHE).id


def read(engine: Engine, number: int) -> OperationRecord:
    """Return an operation as it is."""
    with Session(engine) as session:
        return operations.get(session, number)


def wait_for(condition: Callable[[], bool], *, seconds: float = 120) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def playbooks_below(process_id: int) -> list[psutil.Process]:
    """Return the processes of Ansible that a process has started."""
    found = []
    for child in psutil.Process(process_id).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if any("ansible-playbook" in word for word in child.cmdline()):
                found.append(child)
    return found


def test_without_an_inventory_it_says_what_to_set(engine: Engine, settings: Settings) -> None:
    """Nothing is run; the row has the words that help."""
    number = ask(engine)
    assert operate(engine, settings, number, threading.Event())
    found = read(engine, number)
    assert (found.state, found.hosts.total) == ("failed", 0)
    assert "no inventory is set where the keeper runs" in found.error
    assert "STREAMSWARM_INVENTORY" in found.mend
    assert not operate(engine, settings, number, threading.Event()), "it is not run a second time"


def test_a_host_that_is_not_there_is_told(
    engine: Engine, settings: Settings, tmp_path: Path, keepers: Keepers
) -> None:
    """A keeper takes it up by itself; the host is unreachable, with SSH's reason, in its row and in an event."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    its = dataclasses.replace(settings, inventory=(inventory(tmp_path, port),))
    keepers = Keepers(its, tmp_path / "keeper.log")
    try:
        keepers.start()
        number = ask(engine)
        wait_for(lambda: read(engine, number).over)
    finally:
        keepers.end()
    found = read(engine, number)
    assert (found.state, found.hosts.unreachable, found.hosts.total) == ("failed", 1, 1), keepers.log()
    with Session(engine) as session:
        [host] = operations.hosts_of(session, number)
        events = operations.events_of(session, number).items
    assert "refused" in host.message
    assert [(event.host, event.state) for event in events][-1] == ("host1", "unreachable")
    assert its.database_url not in keepers.log()


def test_cancelling_stops_ansible(
    engine: Engine, settings: Settings, tmp_path: Path, silent_port: int
) -> None:
    """The playbook ends within seconds, though its host hangs, and leaves no process."""
    its = dataclasses.replace(settings, inventory=(inventory(tmp_path, silent_port),))
    number = ask(engine)
    runner = threading.Thread(target=operate, args=(engine, its, number, threading.Event()))
    runner.start()
    wait_for(lambda: bool(playbooks_below(os.getpid())))
    with Session(engine) as session, session.begin():
        commands.cancel(session, number, actor=SHE)
    runner.join(timeout=60)
    assert not runner.is_alive()
    found = read(engine, number)
    assert (found.state, found.cancelled_by) == ("cancelled", "user:ada")
    wait_for(lambda: not playbooks_below(os.getpid()), seconds=5)


def test_a_keeper_that_is_told_to_stop_says_so(
    engine: Engine, settings: Settings, tmp_path: Path, silent_port: int
) -> None:
    """Its operation is interrupted, not failed: nothing is wrong with any host."""
    its = dataclasses.replace(settings, inventory=(inventory(tmp_path, silent_port),))
    number, stopping = ask(engine), threading.Event()
    runner = threading.Thread(target=operate, args=(engine, its, number, stopping))
    runner.start()
    wait_for(lambda: bool(playbooks_below(os.getpid())))
    stopping.set()
    runner.join(timeout=60)
    found = read(engine, number)
    assert (found.state, found.error) == ("interrupted", "the keeper that ran it was stopped")


def test_a_keeper_that_is_killed(
    engine: Engine, settings: Settings, tmp_path: Path, silent_port: int
) -> None:
    """Ansible ends with it, another keeper finds the operation interrupted and does not begin it anew."""
    its = dataclasses.replace(settings, inventory=(inventory(tmp_path, silent_port),))
    keepers = Keepers(its, tmp_path / "keeper.log")
    try:
        first = keepers.start()
        number = ask(engine)
        wait_for(lambda: bool(playbooks_below(first.pid)))
        [playbook, *_] = playbooks_below(first.pid)
        first.kill()
        first.wait()
        wait_for(lambda: not playbook.is_running() or playbook.status() == psutil.STATUS_ZOMBIE, seconds=20)
        with engine.begin() as connection:  # as if half a minute had passed
            connection.execute(text("UPDATE operations SET beat_at = now() - interval '31 s'"))
            connection.execute(
                text("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '31 s'")
            )
        second = keepers.start()
        wait_for(lambda: read(engine, number).over)
        wait_for(lambda: "was begun by another keeper" in keepers.log())
        assert playbooks_below(second.pid) == []
    finally:
        keepers.end()
    found = read(engine, number)
    assert (found.state, found.error) == ("interrupted", "who ran it was not heard of any more")


@pytest.mark.parametrize(
    ("limit", "one_host", "said"),
    [
        ("oslo", True, "the inventory has no host `oslo`"),
        ("all", True, "the inventory has no host `all`"),
        ("host*", True, "the inventory has no host `host*`"),
        ("twin", True, "`twin` is a host of the inventory and a group too"),
        ("twin", False, "`twin` is a host of the inventory and a group too"),
    ],
)
def test_one_host_is_never_taken_for_a_group(
    engine: Engine, settings: Settings, tmp_path: Path, limit: str, one_host: bool, said: str
) -> None:
    """Nothing is done to any host where the name of the one is that of others too."""
    path = tmp_path / "hosts.ini"
    path.write_text("[workers]\nhost1\ntwin\n\n[oslo]\nhost1\n\n[twin]\nhost1\n")
    options = {"one_host": True} if one_host else {}
    number = ask(engine, kind="drain", limit=limit, options=options)
    assert operate(engine, dataclasses.replace(settings, inventory=(path,)), number, threading.Event())
    found = read(engine, number)
    assert (found.state, found.hosts.total) == ("failed", 0)
    assert found.error.startswith(said)


#: A keeper of which one task goes on, whatever it is told, until a file is there.
_GOES_ON = """
import sys, time
from pathlib import Path
from controller.keeper import __main__, app, operating, plan
app._LEAVE_AFTER_S = 5.0
def go_on(*_):
    Path(sys.argv[2]).with_name("begun").touch()
    while not Path(sys.argv[2]).exists():
        time.sleep(0.1)
    Path(sys.argv[2]).with_name("done").touch()
setattr(*{"operate": (operating, "operate"), "plan": (plan, "plan_everything")}[sys.argv[1]], go_on)
sys.exit(__main__.main())
"""


@contextlib.contextmanager
def _going_on(settings: Settings, task: str, until: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (until.parent / "keeper.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _GOES_ON, task, str(until)],
            env={**os.environ, **settings.environment()},
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def test_a_keeper_that_is_stopped_ends_after_its_operation(
    engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    """However long that takes: hosts may be on their way back to the release before."""
    with _going_on(settings, "operate", tmp_path / "go") as keeper:
        ask(engine)
        wait_for((tmp_path / "begun").exists)
        keeper.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            keeper.wait(15)
        (tmp_path / "go").touch()
        assert keeper.wait(30) == 0
    assert (tmp_path / "done").exists()


def test_a_keeper_that_is_stopped_leaves_what_does_not_end(
    engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    """Any other task: it is done again elsewhere, and nothing is planned as long as nobody takes this keeper's place."""
    with _going_on(settings, "plan", tmp_path / "go") as keeper:
        wait_for((tmp_path / "begun").exists)
        keeper.terminate()
        assert keeper.wait(30) == 0
    assert not (tmp_path / "done").exists()
    assert "leaves a task that does not end" in (tmp_path / "keeper.log").read_text()
