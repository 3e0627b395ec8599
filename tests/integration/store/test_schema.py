"""The schema: migrations make what the models describe, once, whoever asks and how often."""

from __future__ import annotations

import ast
import datetime as dt
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import OperationalError
from support.at_once import at_once
from support.later_release import install_later_release

from controller import assets
from controller.errors import DatabaseBusyError, DatabaseUnavailableError, SchemaError, UnsafeDatabaseError
from controller.settings import Settings
from controller.store import results, revisions, rollups, schema
from controller.store.engine import make_engine
from controller.store.entities import Base
from streamswarm import contract

PING = (
    "INSERT INTO result_ping (job_id, scheduled_at, started_at, duration_ms, job_version, status, failure_source) "
    "VALUES (1, :at, :at, 1, 1, 1, 0)"
)


@pytest.fixture
def empty_settings(empty_postgres_url: str) -> Settings:
    """Settings with a database that has no schema yet."""
    return Settings(database_url=empty_postgres_url)


def differences(engine: Engine) -> list[object]:
    """Compare the database with the models as Alembic does."""
    assert rollups.all_tables()
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "include_name": schema.include_name,
            },
        )
        return list(compare_metadata(context, Base.metadata))


def test_migrations_make_what_the_models_describe(engine: Engine) -> None:
    """Tables, columns, types, defaults, keys and indexes of migrated database and models are the same."""
    assert results.TABLES
    assert differences(engine) == []


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE jobs DROP COLUMN paused",
        "ALTER TABLE jobs ALTER COLUMN version TYPE bigint",
        "ALTER TABLE jobs ALTER COLUMN version SET DEFAULT 7",
        "ALTER TABLE jobs ALTER COLUMN kind DROP NOT NULL",
        "DROP INDEX ix_jobs_test_id",
        "ALTER TABLE result_ping DROP COLUMN rtt_avg_ms",
        "ALTER TABLE result_ping ALTER COLUMN packets_sent TYPE bigint",
        "CREATE TABLE stray (id int)",
    ],
)
def test_a_difference_would_be_seen(engine: Engine, change: str) -> None:
    """The comparison notices each kind of difference that a forgotten migration leaves."""
    with engine.begin() as connection:
        connection.execute(text(change))
    assert differences(engine) != []


def test_constraints_that_alembic_does_not_compare(engine: Engine) -> None:
    """Check constraints, partial index predicates, partitioning and what keys carry are in the database as in the models."""
    with engine.connect() as connection:
        checks = set(
            connection.execute(
                text("SELECT conname FROM pg_constraint WHERE contype = 'c' AND conname LIKE 'ck\\_%'")
            ).scalars()
        )
        partitioned = set(
            connection.execute(text("SELECT partrelid::regclass::text FROM pg_partitioned_table")).scalars()
        )
        partial = set(
            connection.execute(
                text("SELECT indexrelid::regclass::text FROM pg_index WHERE indpred IS NOT NULL")
            ).scalars()
        )
        carried = {
            str(table): list(columns)
            for table, columns in connection.execute(
                text(
                    "SELECT i.indrelid::regclass::text, array_agg(a.attname::text ORDER BY a.attnum) "
                    "FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid AND c.relkind = 'p' "
                    "JOIN pg_attribute a ON a.attrelid = i.indexrelid AND a.attnum > i.indnkeyatts "
                    "WHERE i.indisprimary GROUP BY i.indrelid"
                )
            )
        }
    assert carried == {
        results.table_name(kind): [results.metric_column(kind, contract.kind(kind).headline.name).name]
        for kind in results.kinds()
    }
    assert len(checks) == sum(
        type(constraint).__name__ == "CheckConstraint"
        for table in Base.metadata.tables.values()
        for constraint in table.constraints
    )
    assert partitioned == {*results.all_table_names(), *rollups.all_table_names()}
    assert {
        str(index.name)
        for table in Base.metadata.tables.values()
        for index in table.indexes
        if index.dialect_options["postgresql"]["where"] is not None
    } <= partial


def test_upgrading_an_empty_database_twice(empty_settings: Settings) -> None:
    """An empty database is told apart, upgraded, found current, and left alone by a second upgrade."""
    engine = make_engine(empty_settings, application="test")
    with pytest.raises(SchemaError, match=r"no StreamSwarm schema yet\n.*streamswarm db upgrade"):
        schema.check(engine)
    schema.upgrade(empty_settings)
    schema.check(engine)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO destinations (name, address) VALUES ('kept', '192.0.2.1')"))
    schema.upgrade(empty_settings)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT name FROM destinations")).scalars().all() == ["kept"]
    engine.dispose()


def test_two_processes_upgrade_at_once(empty_settings: Settings) -> None:
    """Upgrades that start together do the work once and none of them fails."""
    at_once(*(lambda: schema.upgrade(empty_settings),) * 3)
    engine = make_engine(empty_settings, application="test")
    schema.check(engine)
    engine.dispose()


def test_an_upgrade_that_gets_no_lock_says_who_is_in_its_way(
    engine: Engine, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives up after a while, changes nothing, names who holds what, and lets inserts pass between its tries."""
    install_later_release(tmp_path / "migrations", monkeypatch)
    monkeypatch.setattr(schema, "UPGRADE_WAIT_S", 2.0)
    slowest_s = 0.0
    with engine.connect() as reader, ThreadPoolExecutor(1) as threads:
        reader.execute(text("SELECT count(*) FROM result_ping")).scalar_one()
        upgrade = threads.submit(schema.upgrade, settings)
        while not upgrade.done():
            began = time.monotonic()
            with engine.begin() as writer:
                writer.execute(text(PING), {"at": dt.datetime.now(dt.UTC)})
            slowest_s = max(slowest_s, time.monotonic() - began)
        with pytest.raises(DatabaseBusyError) as caught:
            upgrade.result()
    assert 0.5 < slowest_s < 5  # the longest that a gateway waits for a lock
    assert re.search(r"result_ping\b.* held by process \d+ \(test, user streamswarm\)", str(caught.value)), (
        caught.value
    )
    assert "streamswarm db upgrade" in caught.value.mend
    with engine.connect() as connection:
        assert not schema_has_later(connection)


def test_an_upgrade_waits_for_a_reader_and_is_done_after_it(
    engine: Engine, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction that ends two seconds later is waited for, whole tries long."""
    install_later_release(tmp_path / "migrations", monkeypatch)
    with engine.connect() as reader:
        reader.execute(text("SELECT count(*) FROM result_ping")).scalar_one()
        ended = threading.Timer(2.0, reader.rollback)
        ended.start()
        schema.upgrade(settings)
        ended.join()
        assert schema_has_later(reader)
        schema.check(engine)


def schema_has_later(connection: Connection) -> bool:
    """Whether the later release's column is there."""
    return "later" in {column["name"] for column in inspect(connection).get_columns("result_ping")}


def test_a_newer_schema_is_refused(engine: Engine, settings: Settings) -> None:
    """A schema of a later release is neither run on nor migrated."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaError, match="newer than this release"):
        schema.check(engine)
    with pytest.raises(SchemaError, match="newer than this release"):
        schema.upgrade(settings)


def test_unsafe_settings_are_refused(engine: Engine, settings: Settings, postgres_url: str) -> None:
    """A server, role or database with synchronous_commit off is refused by name, however it came about."""
    name = postgres_url.partition("@/")[2].partition("?")[0]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off".encode())
    engine.dispose()
    with pytest.raises(UnsafeDatabaseError, match="synchronous_commit = off"):
        schema.check(engine)
    with pytest.raises(UnsafeDatabaseError, match="synchronous_commit = off"):
        schema.upgrade(settings)


def test_an_unreachable_server_is_named_without_the_password() -> None:
    """The error says where PostgreSQL was looked for and what to do, and never the password."""
    engine = make_engine(
        Settings(database_url="postgresql://someone:geheim@127.0.0.1:1/nowhere"), application="test"
    )
    with pytest.raises(DatabaseUnavailableError, match=r"127\.0\.0\.1:1, database `nowhere`") as caught:
        schema.check(engine)
    assert "geheim" not in str(caught.value)
    assert "STREAMSWARM_DATABASE_URL" in caught.value.mend


def test_a_wrong_password_is_not_repeated(postgres_url: str) -> None:
    """A refused login names the address and shows no password."""
    right = postgres_url.partition("://streamswarm:")[2].partition("@")[0]
    engine = make_engine(
        Settings(database_url=postgres_url.replace(right, "falsches-wort")), application="test"
    )
    with pytest.raises(DatabaseUnavailableError, match="password authentication failed") as caught:
        schema.check(engine)
    assert "falsches-wort" not in str(caught.value)


def test_a_server_whose_locks_are_used_up_is_told_what_to_set(engine: Engine) -> None:
    """An upgrade that builds keys anew locks all days of all kinds; starting the server would mend nothing."""
    raised = (
        "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '53200', MESSAGE = 'out of shared memory', "
        "HINT = 'You might need to increase \"max_locks_per_transaction\".'; END $$"
    )
    with pytest.raises(OperationalError) as caught, engine.begin() as connection:
        connection.execute(text(raised))
    told = schema.unavailable(engine, caught.value)
    assert "out of shared memory" in str(told)
    assert "larger max_locks_per_transaction" in told.mend


def test_revisions_are_told_by_the_names_of_their_files() -> None:
    """As Alembic, which loads them, has them: one line from the first to the newest."""
    config = Config()
    config.set_main_option("script_location", str(assets.migrations()))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    assert revisions.known() == tuple(script.revision for script in scripts.walk_revisions())[::-1]
    assert scripts.get_heads() == [revisions.newest()]


def test_migrations_stand_alone() -> None:
    """No migration imports the contract or the models: what it does is frozen."""
    scripts = sorted((assets.migrations() / "versions").glob("*.py"))
    assert scripts
    for script in scripts:
        for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert not name.startswith(("streamswarm", "controller", "worker", "web")), script
