"""Deferring inside a transaction: with it or not at all, merged, and never seen before the changes."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, text

from controller.store import queue


def tasks(engine: Engine) -> list[tuple[Any, ...]]:
    """Return id, name, arguments, lock and status of all tasks."""
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT id, task_name, args, lock, status::text FROM procrastinate_jobs ORDER BY id")
        )
        return [tuple(row) for row in rows]


def fetch(connection: Connection) -> int | None:
    """Take the next task as a keeper does; return its id."""
    return connection.execute(text("SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)")).scalar_one()


def test_a_task_lives_and_dies_with_its_transaction(engine: Engine) -> None:
    """A rolled back transaction leaves no task; a committed one leaves it with all that was said."""
    with engine.connect() as connection:
        queue.plan_test(connection, 5)
        connection.rollback()
    assert tasks(engine) == []
    with engine.begin() as connection:
        number = queue.plan_test(connection, 5)
    assert tasks(engine) == [(number, "plan", {"test_id": 5}, "plan", "todo")]


def test_tasks_of_one_queueing_lock_are_merged(engine: Engine) -> None:
    """While one waits no second is added, in the same transaction or another; a running one is no reason."""
    with engine.begin() as connection:
        first = queue.plan_test(connection, 5)
        assert queue.plan_test(connection, 5) == first
    with engine.begin() as connection:
        assert queue.plan_test(connection, 5) == first
        other = queue.plan_test(connection, 6)
    with engine.begin() as connection:
        assert fetch(connection) == first
    with engine.begin() as connection:
        third = queue.plan_test(connection, 5)
    assert third not in (first, other)
    assert [row[0] for row in tasks(engine)] == [first, other, third]


def test_no_keeper_starts_a_task_before_the_changes_are_there(engine: Engine) -> None:
    """A waiting task that a transaction joined cannot be taken until that transaction has ended."""
    with engine.begin() as connection:
        first = queue.plan_test(connection, 5)
    with engine.begin() as changing:
        assert queue.plan_test(changing, 5) == first
        with engine.begin() as keeper:
            assert fetch(keeper) is None
    with engine.begin() as keeper:
        assert fetch(keeper) == first


def test_joining_tells_the_keepers_at_the_commit(engine: Engine, postgres_url: str) -> None:
    """A keeper that has passed the locked task over hears of it again."""
    with engine.begin() as connection:
        queue.plan_test(connection, 5)
    with psycopg.connect(postgres_url, autocommit=True) as listener:
        listener.execute("LISTEN procrastinate_any_queue_v1")
        with engine.begin() as connection:
            first = queue.plan_test(connection, 5)
            assert list(listener.notifies(timeout=0.3)) == []
        (notice,) = list(listener.notifies(timeout=2, stop_after=1))
    assert notice.payload.replace(" ", "") == f'{{"type":"job_inserted","job_id":{first}}}'


def test_two_transactions_defer_the_same_at_once(engine: Engine) -> None:
    """The second waits for the first and then joins its task, or adds one when it was rolled back."""
    for committed in (True, False):
        found: list[int] = []

        def second(found: list[int] = found) -> None:
            with engine.begin() as connection:
                connection.execute(text("SELECT 1"))
                found.append(queue.defer(connection, "plan", {}, queueing_lock="same"))

        with engine.connect() as connection:
            first = queue.defer(connection, "plan", {}, queueing_lock="same")
            thread = threading.Thread(target=second)
            thread.start()
            thread.join(0.5)
            assert thread.is_alive()
            if committed:
                connection.commit()
            else:
                connection.rollback()
        thread.join(5)
        assert (found == [first]) == committed
        assert len(tasks(engine)) == 1
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM procrastinate_jobs"))


async def test_the_asynchronous_way_does_the_same(engine: Engine, postgres_url: str) -> None:
    """From psycopg 3 too: inside the transaction, merged, told, and with plain arguments."""
    worker = uuid.uuid4()
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
        async with connection.transaction():
            first = await queue.plan_worker_async(connection, worker)
            assert await queue.plan_worker_async(connection, worker) == first
            free = await queue.defer_async(connection, "plan", {"a": [1, "zwei"]})
            assert tasks(engine) == []
        assert tasks(engine) == [
            (first, "plan", {"worker_id": str(worker)}, "plan", "todo"),
            (free, "plan", {"a": [1, "zwei"]}, None, "todo"),
        ]
        async with connection.transaction(force_rollback=True):
            await queue.defer_async(connection, "plan", {})
        assert len(tasks(engine)) == 2
    with engine.begin() as connection:
        assert queue.plan_worker(connection, worker) == first
