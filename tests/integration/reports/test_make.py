"""Reports from the asking to the file: nothing is done twice, and why there is none is told."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session
from support.keepers import Keepers
from support.pdf import text_of
from support.reports import END, HOUR, printing
from support.surroundings import wait_for

from controller.errors import ConflictError, NotFoundError
from controller.keeper.prune import prune
from controller.reports.make import make_report
from controller.reports.press import Limits
from controller.settings import Settings
from controller.store.commands import reports as commands
from controller.store.commands.audit import SYSTEM
from controller.store.entities import Worker
from controller.store.queries import reports


def test_hostile_names_are_printed_as_text(
    engine: Engine, ground: Any, lines: dict[str, Any], tmp_path: Path
) -> None:
    """The whole way: names with markup, addresses and files are words in the PDF."""
    names = [
        '<img src="http://127.0.0.1:9/x.png">',
        '<link rel="attachment" href="file:///etc/passwd">',
        "</style><script>alert(1)</script>{{ 7 * 7 }}",
    ]
    evil = ground.destination(names[1], "192.0.2.66")
    test = ground.test(names[0], "ping", destinations=[evil], description=names[2])
    with Session(engine) as session, session.begin():
        session.get_one(Worker, lines["workers"][0]).name = names[2]
    job = ground.job(test, lines["workers"][0], evil)
    ground.runs(
        job,
        [
            {"at": at, "status": 2, "source": 2, "error": '<a rel=attachment href="file:///etc/shadow">x</a>'}
            for at in ground.due(job, HOUR, END)
        ],
    )
    asked = ground.ask(test, start=HOUR, end=END)
    assert make_report(engine, asked.id)
    with Session(engine) as session:
        _, content = reports.read_file(session, asked.id)
    said = "".join(text_of(content, tmp_path).split())
    for name in (*names, '<a rel=attachment href="file:///etc/shadow">'):
        assert "".join(name.split()) in said, name


def state_of(engine: Engine, report_id: int) -> reports.ReportRecord:
    """Return a report as it is now."""
    with Session(engine) as session:
        return reports.get(session, report_id)


def test_a_report_is_made_once(engine: Engine, ground: Any, lines: dict[str, Any]) -> None:
    """The file has the size and hash that the row says; a second task does nothing."""
    asked = ground.ask(lines["test"], start=HOUR, end=END)
    assert state_of(engine, asked.id).state == "waiting"
    assert make_report(engine, asked.id)
    made = state_of(engine, asked.id)
    with Session(engine) as session:
        _, content = reports.read_file(session, asked.id)
    assert made.state == "ready"
    assert content.startswith(b"%PDF-")
    assert (made.size, made.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert not make_report(engine, asked.id)
    assert state_of(engine, asked.id) == made


def test_a_keeper_that_comes_late_changes_nothing(engine: Engine, ground: Any, lines: dict[str, Any]) -> None:
    """Who took a report up first and was overtaken can neither finish nor fail it; a deleted one stays deleted."""
    asked = ground.ask(lines["test"], start=HOUR, end=END)
    with Session(engine) as session, session.begin():
        taken = commands.take_up(session, asked.id)
        assert taken is not None
        again = commands.take_up(session, asked.id)
        assert again is not None
        assert (taken[1], again[1]) == (1, 2)
        assert not commands.finish(session, asked.id, 1, b"stale")
        assert not commands.fail(session, asked.id, 1, error="stale", mend="")
        assert not commands.tell(session, asked.id, 1, "stale")
        assert commands.finish(session, asked.id, 2, b"%PDF-fresh")
        assert commands.take_up(session, asked.id) is None
    with Session(engine) as session, session.begin():
        assert reports.read_file(session, asked.id)[1] == b"%PDF-fresh"
        commands.delete(session, asked.id, actor=SYSTEM)
        assert not commands.finish(session, asked.id, 2, b"late")
    with pytest.raises(NotFoundError):
        state_of(engine, asked.id)
    assert not make_report(engine, asked.id)


def test_a_report_that_ends_its_keepers_is_given_up(
    engine: Engine, ground: Any, lines: dict[str, Any]
) -> None:
    """After three attempts that were cut short it has failed, and says so."""
    asked = ground.ask(lines["test"], start=HOUR, end=END)
    with Session(engine) as session, session.begin():
        for _ in range(commands.MOST_ATTEMPTS):
            assert commands.take_up(session, asked.id) is not None
    assert not make_report(engine, asked.id)
    found = state_of(engine, asked.id)
    assert (found.state, found.progress) == ("failed", "")
    assert found.error == "it was cut short 3 times while it was being made"


def test_why_there_is_no_file_is_kept(engine: Engine, ground: Any, lines: dict[str, Any]) -> None:
    """A failed printing is the report's reason; asking for the file tells it."""
    asked = ground.ask(lines["test"], start=HOUR, end=END)
    assert not make_report(engine, asked.id, limits=Limits(largest=100))
    found = state_of(engine, asked.id)
    assert (found.state, found.error) == ("failed", "the PDF would have more than 0 MiB")
    with Session(engine) as session, pytest.raises(ConflictError, match="it failed: the PDF would have more"):
        reports.read_file(session, asked.id)


@pytest.mark.timeout(240)
def test_a_killed_keeper_s_report_is_made_by_another(
    engine: Engine, settings: Settings, ground: Any, lines: dict[str, Any], tmp_path: Path
) -> None:
    """Killed while its child prints: the child ends too, the task is rescued, and the report is made."""
    keepers = Keepers(settings, tmp_path / "keepers.log")
    try:
        first = keepers.start()
        asked = ground.ask(lines["test"], start=HOUR, end=END)
        wait_for("printing", lambda: printing(first.pid), 60)
        (child,) = printing(first.pid)
        child.suspend()  # or it might be done before its keeper is dead
        first.send_signal(signal.SIGKILL)
        first.wait(10)
        with contextlib.suppress(psutil.NoSuchProcess):
            child.resume()
        wait_for("the end of the dead keeper's child", lambda: is_over(child), 20)
        assert state_of(engine, asked.id).state == "working"
        keepers.start()
        wait_for("the report's end", lambda: not state_of(engine, asked.id).pending, 120)
        made = state_of(engine, asked.id)
        assert made.state == "ready", (made.error, keepers.log())
        with engine.connect() as connection:
            assert connection.execute(text("SELECT attempt FROM reports")).scalar_one() == 2
    except BaseException:
        with engine.connect() as connection:
            tasks = connection.execute(text("SELECT * FROM procrastinate_jobs")).mappings().all()
        sys.stderr.write(f"{state_of(engine, asked.id)}\n{tasks}\n{keepers.log()}\n")
        raise
    finally:
        keepers.end()


def is_over(process: psutil.Process) -> bool:
    """Whether a process does nothing any more; somebody may still have to reap it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return True


def test_old_reports_are_pruned(engine: Engine, ground: Any, lines: dict[str, Any]) -> None:
    """After its thirty days a report and its file are gone."""
    kept, old = (ground.ask(lines["test"], start=HOUR, end=END) for _ in range(2))
    assert kept.expires_at - kept.created_at > dt.timedelta(days=29)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE reports SET expires_at = now() - interval '1 s' WHERE id = :id"), {"id": old.id}
        )
    assert prune(engine)["reports"] == 1
    assert state_of(engine, kept.id).state == "waiting"
