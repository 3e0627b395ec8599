"""The controller's doctor on a real database and beside real processes: one thing is broken at a time and named."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection, Engine, text
from support.database import query
from support.surroundings import clean_environment, free_addresses, wait_for

from controller.cli.main import cli
from controller.doctor import examine
from controller.gateway.authority import Authority
from controller.settings import Settings
from controller.store import health, partitions
from controller.store.queue import defer
from streamswarm import CONTRACT_VERSION
from streamswarm.findings import Verdict


def _wrong(settings: Settings) -> dict[str, list[str]]:
    """Return what is wrong, by check."""
    found: dict[str, list[str]] = {}
    for finding in examine(settings):
        if finding.verdict is Verdict.WRONG:
            assert finding.mend
            found.setdefault(finding.check, []).append(finding.found)
    return found


@pytest.fixture
def well(settings: Settings, engine: Engine) -> Settings:
    """Settings of an installation on which, by its rows, all is well."""
    settings.data_dir.mkdir(mode=0o700, parents=True)
    ports = free_addresses(3)
    with engine.begin() as connection:
        for role in health.NEEDS:
            health.register_process(connection, role, f"{role}-1")
        # On another machine, or its ports would be looked for on this one.
        connection.execute(text("UPDATE processes SET host_name = 'elsewhere.example.org'"))
        _add_worker(connection, "alpha")
    return dataclasses.replace(
        settings, gateway_listen=ports[0], enrolment_listen=ports[1], web_listen=ports[2]
    )


def _add_worker(connection: Connection, name: str) -> None:
    connection.execute(
        text(
            "INSERT INTO workers (name, host_name, enrolled_at, gateway_id) "
            "SELECT :name, :name, now(), id FROM processes WHERE role = 'gateway'"
        ),
        {"name": name},
    )


def test_nothing_is_wrong_where_all_is_well(well: Settings) -> None:
    """And what was looked at is told."""
    findings = list(examine(well))
    assert _wrong(well) == {}
    checks = {finding.check for finding in findings if finding.verdict is Verdict.OK}
    expected = {
        "settings",
        "data folder",
        "disk",
        "database",
        "schema",
        "queue",
        "partitions",
        "roll-ups",
        "workers",
    }
    assert checks >= expected | set(health.NEEDS)


@pytest.mark.parametrize(
    ("statement", "check", "told"),
    [
        ("UPDATE processes SET stopped_at = now() WHERE role = 'keeper'", "keeper", "nothing is planned"),
        ("UPDATE workers SET gateway_id = NULL", "workers", "1 are not connected: alpha"),
        ("UPDATE workers SET clock_offset_ms = -5001", "workers", "1 have a clock that is more than 5 s off"),
        ("UPDATE workers SET spool_alarm = 'full'", "workers", "1 cannot keep results: alpha"),
        ("UPDATE workers SET vantage_alarm = 'no cable'", "workers", "have lost their access"),
        (f"UPDATE workers SET contract_version = {CONTRACT_VERSION + 1}", "workers", "a newer contract"),
        (
            "INSERT INTO quarantine (worker_id, spool_id, seq, reason, payload) "
            "SELECT id, 'a', 1, 'no such job', '' FROM workers",
            "workers",
            "that could not be stored: alpha",
        ),
        (
            "UPDATE workers SET spool_records = 501, connected_at = now() - interval '1 hour'; "
            "INSERT INTO backlogs (worker_id, least, since) SELECT id, 501, now() - interval '1 hour' FROM workers",
            "workers",
            "get rid of none of the results",
        ),
        (
            "UPDATE processes SET gauges = CAST('{\"clock_offset_ms\"\\: -7200}' AS jsonb) WHERE role = 'gateway'",
            "gateway",
            "is 7.2 s behind the database's",
        ),
        (
            "UPDATE processes SET gauges = CAST('{\"clock_offset_ms\"\\: 7200}' AS jsonb) WHERE role = 'keeper'",
            "keeper",
            "is 7.2 s ahead of the database's",
        ),
        (
            "INSERT INTO upkeep_clock (id, reached) VALUES (1, now() - interval '50 hours')",
            "retention",
            "the database's clock is 2 days ahead of that",
        ),
        (
            "UPDATE workers SET results_expired = 7, results_expired_at = now() - interval '1 hour'",
            "workers",
            "that are older than results are kept: alpha",
        ),
        (
            "INSERT INTO upkeep_troubles (task, kind, reason, times) VALUES ('roll_up', 'dns', 'out of range', 2)",
            "roll-ups",
            "dns cannot be rolled up since",
        ),
        (
            'INSERT INTO passed_over (kind, layer, job_id, start, "end") '
            "VALUES ('ping', '1h', 7, '2026-03-01 10\\:00Z', '2026-03-01 11\\:00Z')",
            "roll-ups",
            "ping of job 7 is not rolled up in a stretch between 2026-03-01 10:00 and 2026-03-01 11:00 UTC",
        ),
        (
            "INSERT INTO rollup_frontiers (kind, layer, done_until) VALUES ('ping', '5m', now() - interval '61 min'), "
            "('dns', '5m', now() - interval '59 min'), ('ping', '1h', now() - interval '2 h')",
            "roll-ups",
            "ping is rolled up until",
        ),
        ("UPDATE alembic_version SET version_num = 'another'", "database", "newer than this release"),
    ],
)
def test_each_trouble_is_named(well: Settings, engine: Engine, statement: str, check: str, told: str) -> None:
    """One change of a row, one finding."""
    with engine.begin() as connection:
        for each in statement.split("; "):
            connection.execute(text(each))
    found = _wrong(well)
    assert list(found) == [check]
    assert len(found[check]) == 1
    assert told in found[check][0]


def test_a_root_that_is_not_the_installation_s_is_told(well: Settings, engine: Engine) -> None:
    """A gateway with it would not start; until the database knows any, the one that is here is as good as another."""
    Authority(well)
    assert _wrong(well) == {}
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO trusted_roots (fingerprint, host_name) VALUES ('0011', 'elsewhere')")
        )
    [told] = _wrong(well)["CA"]
    assert "is not this installation's, SHA-256 00:11" in told
    assert "host elsewhere" in told


def test_roll_ups_that_are_behind_are_told_together(well: Settings, engine: Engine) -> None:
    """Where no keeper has run for a day all kinds are: the one that is furthest behind is named."""
    with engine.begin() as connection:
        for hours, kind in enumerate(("dns", "ping", "tcp"), start=2):
            connection.execute(
                text(
                    "INSERT INTO rollup_frontiers (kind, layer, done_until) "
                    "VALUES (:kind, '5m', now() - :hours * interval '1 hour')"
                ),
                {"kind": kind, "hours": hours},
            )
    [told] = _wrong(well)["roll-ups"]
    assert told.startswith("tcp is rolled up until ")
    assert told.endswith(" only, and 2 more kinds are behind")


def test_workers_are_counted_and_the_first_named(well: Settings, engine: Engine) -> None:
    """Five names stand for any number; revoked and deleted ones are none."""
    with engine.begin() as connection:
        for name in "bcdefghi":
            _add_worker(connection, name)
        connection.execute(text("UPDATE workers SET gateway_id = NULL"))
        connection.execute(text("UPDATE workers SET revoked_at = now() WHERE name = 'b'"))
        connection.execute(text("UPDATE workers SET deleted_at = now() WHERE name = 'c'"))
    assert _wrong(well) == {"workers": ["7 are not connected: alpha, d, e, f, g and 2 more"]}


def test_a_partition_that_is_missing_is_told(well: Settings, engine: Engine) -> None:
    """Without it a result of that day would have to wait for one."""
    name = partitions.partition_name("result_ping", dt.datetime.now(dt.UTC).date())
    with engine.begin() as connection:
        connection.execute(text(f"DROP TABLE {name}"))
    found = _wrong(well)
    assert list(found) == ["partitions"]
    assert name in found["partitions"][0]


def test_a_queue_that_stands_still_is_told(well: Settings, engine: Engine) -> None:
    """A task that has been due for ten minutes, then one under way whose keeper is gone."""
    with engine.begin() as connection:
        task = defer(connection, "plan", {"test_id": 1})
    assert _wrong(well) == {}
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE procrastinate_events SET at = now() - interval '10 minutes' WHERE job_id = :id"),
            {"id": task},
        )
    found = _wrong(well)
    assert list(found) == ["queue"]
    assert "the longest (plan) has been due for 10 minutes" in found["queue"][0]
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = :id"), {"id": task}
        )
    assert "keepers that are dead" in _wrong(well)["queue"][0]


def test_a_task_that_waits_for_another_is_not_held_up(well: Settings, engine: Engine) -> None:
    """Operations on the fleet run one after another, and one may take long; the next is no fault of the keepers'."""
    with engine.begin() as connection:
        keeper = connection.execute(
            text("INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id")
        ).scalar_one()
        first, second = (
            defer(connection, "operation", {"operation_id": number}, lock="operation") for number in (1, 2)
        )
        connection.execute(
            text("UPDATE procrastinate_events SET at = now() - interval '10 minutes' WHERE job_id = :id"),
            {"id": second},
        )
    assert list(_wrong(well)) == ["queue"]
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE procrastinate_jobs SET status = 'doing', worker_id = :keeper WHERE id = :id"),
            {"id": first, "keeper": keeper},
        )
    assert _wrong(well) == {}


def test_a_database_that_is_away_is_told_once(tmp_path: Path) -> None:
    """What needs it is said not to have been looked at; the password is not."""
    (tmp_path / "data").mkdir(mode=0o700)
    url = f"postgresql://u:secret-word@{free_addresses(1)[0]}/x"
    settings = Settings(data_dir=tmp_path / "data", database_url=url, **_ports())
    findings = list(examine(settings))
    assert [finding.check for finding in findings if finding.verdict is Verdict.WRONG] == ["database"]
    assert any("only when the database can be used" in finding.found for finding in findings)
    assert "secret-word" not in "".join(finding.found + finding.mend for finding in findings)


def test_a_database_that_was_never_made_is_told(tmp_path: Path) -> None:
    """The embedded one, before the first start; and an empty one of one's own."""
    (tmp_path / "data").mkdir(mode=0o700)
    found = _wrong(Settings(data_dir=tmp_path / "data", **_ports()))
    assert "database" in found


def test_an_empty_database_is_told(empty_postgres_url: str, tmp_path: Path) -> None:
    """It answers, and has no schema."""
    (tmp_path / "data").mkdir(mode=0o700)
    found = _wrong(Settings(data_dir=tmp_path / "data", database_url=empty_postgres_url, **_ports()))
    assert "has no StreamSwarm schema yet" in found["database"][0]


def _ports() -> dict[str, str]:
    names = ("gateway_listen", "enrolment_listen", "web_listen")
    return dict(zip(names, free_addresses(3), strict=True))


@contextlib.contextmanager
def _running(settings: Settings, module: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        env=clean_environment(**settings.environment()),
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_command_beside_running_processes(settings: Settings) -> None:
    """All is well; then the gateway is killed, and is named; the exit code tells, and JSON says the same."""
    settings = dataclasses.replace(settings, **_ports())
    settings.data_dir.mkdir(mode=0o700, parents=True)
    environment = settings.environment()

    def alive() -> bool:
        rows = query(settings, "SELECT count(DISTINCT role) FROM processes WHERE stopped_at IS NULL")
        return rows == [(3,)]

    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(cli, ["doctor", *words], env=environment)
        return done.exit_code, done.output

    with (
        _running(settings, "web"),
        _running(settings, "controller.keeper"),
        _running(settings, "controller.gateway") as gateway,
    ):
        wait_for("gateway, keeper and web", alive, 60)
        wait_for("their ports", lambda: "nothing listens" not in run()[1], 30)
        code, shown = run()
        assert code == 0, shown
        for check in ("gateway's certificate", f"port {settings.web_listen}", "queue", "CA keys"):
            assert any(line.startswith(f"ok       {check} ") for line in shown.splitlines()), check
        gateway.kill()
        gateway.wait()
        code, shown = run("--json")
    assert code == 1
    wrong = [each["check"] for each in json.loads(shown)["findings"] if each["verdict"] == "wrong"]
    assert wrong == [f"port {settings.gateway_listen}", f"port {settings.enrolment_listen}"]


def test_settings_that_cannot_be_read_are_a_finding() -> None:
    """Not an error beside the findings: whoever reads JSON gets JSON."""
    done = CliRunner().invoke(cli, ["doctor", "--json"], env={"STREAMSWARM_COLOUR": "red"})
    assert done.exit_code == 1
    first, *_ = json.loads(done.output)["findings"]
    assert (first["check"], first["verdict"]) == ("settings", "wrong")
    assert "STREAMSWARM_COLOUR" in first["found"]
