"""What an upgrade finds that keepers of a former release have left beside the days they rewrote."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text
from support.rewritten_day import DAY, beside, insert, stored

from controller.settings import Settings
from controller.store import partitions, revisions, schema
from controller.store.engine import make_engine
from controller.store.upkeep import rewriting
from controller.store.upkeep.rewriting import Day, rewrite


@pytest.fixture
def settings(empty_postgres_url: str) -> Settings:
    """Of a database in which there is nothing yet."""
    return Settings(database_url=empty_postgres_url)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """Connections to it."""
    engine = make_engine(settings, application="test")
    yield engine
    engine.dispose()


def test_an_upgrade_that_builds_the_keys_anew_makes_kept_copies_of_no_use(
    engine: Engine, settings: Settings
) -> None:
    """They have the key as it was, with which they could not take the day's place."""
    with engine.begin() as connection:
        revisions.bring(connection, "0026")
        partitions.ensure_partitions(connection, "ping", [DAY.day])
        for number in range(9):
            insert(connection, 9 - number, number)
        for statement in (
            f"INSERT INTO rewritten_partitions (name, attempt) VALUES ('{DAY.name}', 4)",
            f"CREATE TABLE {DAY.late} (LIKE {DAY.name})",
            f"CREATE TABLE {DAY.new} AS SELECT * FROM {DAY.name}",
            f"ALTER TABLE {DAY.new} ADD PRIMARY KEY (job_id, scheduled_at)",
            f"COMMENT ON TABLE {DAY.new} IS 'complete, of attempt 4'",
        ):
            connection.execute(text(statement))
    schema.upgrade(settings)
    assert rewrite(engine, DAY).rows == 9
    assert stored(engine) == [(9 - number, number) for number in reversed(range(9))]
    assert beside(engine) == []


def test_an_upgrade_removes_what_keepers_have_left_behind_their_swaps(engine: Engine) -> None:
    """Tables beside a day without an attempt, or beside none; an attempt that was begun keeps its own."""
    begun = Day(table="result_dns", day=DAY.day)
    gone = Day(table="result_tcp", day=DAY.day)
    with engine.begin() as connection:
        revisions.bring(connection, "0037")
        for kind in ("ping", "dns"):
            partitions.ensure_partitions(connection, kind, [DAY.day])
        for name in (f"old_{DAY.name}", DAY.late, begun.new, begun.late, gone.new, gone.late):
            connection.execute(text(f"CREATE TABLE {name} (job_id bigint)"))
        connection.execute(
            text(
                f"CREATE TRIGGER keep_late AFTER INSERT ON {begun.name} "
                "FOR EACH ROW EXECUTE FUNCTION keep_late_row()"
            )
        )
        for day in (DAY, begun, gone):
            rewriting.overtake(connection, day)
        revisions.bring(connection, "0038")
        numbered = set(connection.execute(text("SELECT name FROM rewritten_partitions")).scalars())
    assert beside(engine) == ["keep_late", begun.late, begun.new]
    assert numbered == {DAY.name, begun.name}


def test_an_upgrade_leaves_what_stands_in_another_schema(engine: Engine) -> None:
    """Another installation in the same database, whose tables are found too: its attempts are its own."""
    with engine.begin() as connection:
        revisions.bring(connection, "0037")
        partitions.ensure_partitions(connection, "ping", [DAY.day])
        connection.execute(text("CREATE SCHEMA second"))
        for name in (DAY.name, DAY.late, f"old_{DAY.name}"):
            connection.execute(text(f"CREATE TABLE second.{name} (job_id bigint)"))
        # What is begun of theirs is none of ours, though the name is the same.
        connection.execute(
            text(
                f"CREATE TRIGGER keep_late AFTER INSERT ON second.{DAY.name} "
                "FOR EACH ROW EXECUTE FUNCTION keep_late_row()"
            )
        )
        connection.execute(text(f"CREATE TABLE {DAY.new} (job_id bigint)"))
        connection.execute(text("SET LOCAL search_path = public, second"))
        revisions.bring(connection, "0038")
    with engine.connect() as connection:
        found = connection.execute(
            text(
                "SELECT relnamespace::regnamespace::text || '.' || relname FROM pg_class "
                "WHERE relkind = 'r' AND relname ~ '^(new|old|late)_' ORDER BY 1"
            )
        )
        assert list(found.scalars()) == [f"second.{DAY.late}", f"second.old_{DAY.name}"]


def test_an_upgrade_warns_of_what_a_view_holds(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody reads what a keeper left: it stays, the rest goes, and the warning says what to do."""
    with engine.begin() as connection:
        revisions.bring(connection, "0037")
        for name in (f"old_{DAY.name}", DAY.late):
            connection.execute(text(f"CREATE TABLE {name} (job_id bigint)"))
        connection.execute(text(f"CREATE VIEW mine AS SELECT * FROM old_{DAY.name}"))
        with caplog.at_level(logging.INFO, "sqlalchemy.dialects.postgresql"):
            revisions.bring(connection, "0038")
    assert beside(engine) == [f"old_{DAY.name}"]
    assert f"WARNING:  table public.old_{DAY.name} is of no use any more and stays" in caplog.text
    assert "view mine depends on" in caplog.text
    assert f"then DROP TABLE public.old_{DAY.name}" in caplog.text
