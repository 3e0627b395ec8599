"""`streamswarm report` and `streamswarm results export` against a real server of the API."""

from __future__ import annotations

import csv
import datetime as dt
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine
from sqlalchemy.orm import Session
from support.dashboard import serving
from support.pdf import text_of

from controller.cli.main import cli
from controller.reports.make import make_report
from controller.reports.press import Limits
from controller.settings import Settings
from controller.store.commands import tokens
from controller.store.commands.audit import SYSTEM
from controller.store.queries import reports
from web import create_app

Run = Callable[..., Result]


@pytest.fixture
def run(settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Call the command line with an operator's token."""
    app = create_app(settings)
    with Session(engine) as session, session.begin():
        values = {"name": "a", "scope": "operator"}
        _, token = tokens.create(session, values, actor=SYSTEM, user_id=None, role="admin")
    monkeypatch.setenv("STREAMSWARM_TOKEN", token)
    with serving(app) as url:
        monkeypatch.setenv("STREAMSWARM_URL", url)
        yield lambda *arguments: CliRunner().invoke(cli, [str(argument) for argument in arguments])
    app.extensions["streamswarm.engine"].dispose()


@pytest.fixture
def keeper(engine: Engine) -> Iterator[list[Limits | None]]:
    """Make each report that is asked for; the test may put other limits into the list."""
    limits: list[Limits | None] = [None]
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.1):
            with Session(engine) as session:
                waiting = [item.id for item in reports.find(session).items if item.pending]
            for report in waiting:
                make_report(engine, report, limits=limits[0])

    thread = threading.Thread(target=work)
    thread.start()
    yield limits
    stop.set()
    thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder to write to."""
    path = tmp_path / "files"
    path.mkdir()
    return path


@pytest.fixture
def test_name(ground: Any) -> str:
    """A test with a few runs, the newest two minutes old."""
    now = dt.datetime.now(dt.UTC)
    begin = now - dt.timedelta(hours=1)
    test = ground.test("Load of the hosts", "system", created_at=begin)
    job = ground.job(test, ground.worker("alpha"))
    due = ground.due(job, begin, now - dt.timedelta(minutes=2))
    ground.runs(job, [{"at": at, "cpu_busy_pct": 12.5} for at in due])
    return "Load of the hosts"


def test_a_report_is_fetched_whole(
    run: Run, keeper: list[Limits | None], test_name: str, folder: Path
) -> None:
    """The file is there with the right to be read by others, as new files are, and tells of the test."""
    path = folder / "load.pdf"
    done = run("report", "--test", test_name.upper(), "--last", "1h", "-o", path)
    assert done.exit_code == 0, done.output
    assert "bytes, SHA-256 " in done.output
    assert test_name in text_of(path.read_bytes(), folder)
    assert sorted(item.name for item in folder.iterdir()) == ["load.pdf", "printed.pdf"]


def test_a_report_that_fails_leaves_the_old_file(
    run: Run, keeper: list[Limits | None], test_name: str, folder: Path
) -> None:
    """The controller's reason is the message; what was there before stays."""
    keeper[0] = Limits(largest=100)
    path = folder / "load.pdf"
    path.write_text("older", encoding="utf-8")
    done = run("report", "--test", test_name, "--last", "1h", "-o", path)
    assert done.exit_code == 1
    assert "failed: the PDF would have more than" in done.output
    assert path.read_text(encoding="utf-8") == "older"
    assert list(folder.iterdir()) == [path]


def test_what_is_wrong_is_said(run: Run, test_name: str, folder: Path) -> None:
    """An unknown test, a range that is none, a folder that is not there, and no keeper: one line each."""
    path = folder / "x.pdf"
    for arguments, message in (
        (("--test", "Nothing", "-o", path), "there is no test named `Nothing`"),
        (("--test", test_name, "--last", "soon", "-o", path), "last: must be a number of hours or days"),
        (("--test", test_name, "--wait", "1", "-o", path), "is not ready after 1 s"),
    ):
        done = run("report", *arguments)
        assert done.exit_code == 1
        assert message in done.output
    lost = run("results", "export", "--test", test_name, "-o", folder / "none" / "x.csv")
    assert lost.exit_code == 2
    assert "cannot be written" in lost.output
    assert list(folder.iterdir()) == []


def test_runs_are_exported(run: Run, test_name: str, folder: Path) -> None:
    """Every run of the range is a record."""
    path = folder / "runs.csv"
    done = run("results", "export", "--test", test_name, "--last", "2h", "-o", path)
    assert done.exit_code == 0, done.output
    with path.open(encoding="utf-8", newline="") as file:
        records = list(csv.DictReader(file))
    assert len(records) > 300
    assert {record["cpu_busy_pct [%]"] for record in records} == {"12.5"}
    done = run("results", "export", "--test", test_name, "--child", "disks", "-o", path)
    assert done.exit_code == 0, done.output
    assert path.read_text(encoding="utf-8").startswith(
        "test,worker,destination,target,job_id,scheduled_at,run_status,mount_point,"
    )
    unknown = run("results", "export", "--test", test_name, "--child", "hops", "-o", path)
    assert unknown.exit_code == 1
    assert "child: `hops` is not one of interfaces, disks" in unknown.output
    both = run(
        "results", "export", "--test", test_name, "--last", "2h", "--to", "2030-01-01T00:00:00Z", "-o", path
    )
    assert both.exit_code == 2
