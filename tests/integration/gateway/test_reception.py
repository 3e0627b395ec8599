"""Hellos that come together: one transaction for many, and none of them suffers for another."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import psycopg
import pytest
from grpc import aio

from controller.gateway import arrivals
from controller.store.engine import libpq_url


async def test_hellos_that_wait_are_opened_together(deployment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that come while a transaction runs go into the next one."""
    workers = [await deployment.enrol(f"host-{number}") for number in range(12)]
    together: list[int] = []
    may_go_on = asyncio.Event()
    whole = arrivals.open_sessions

    async def counted(connection: Any, arrivals: Any, process_id: int) -> Any:
        together.append(len(arrivals))
        await may_go_on.wait()
        return await whole(connection, arrivals, process_id)

    monkeypatch.setattr(arrivals, "open_sessions", counted)
    async with contextlib.AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(deployment.session(worker)) for worker in workers]
        welcomes = [asyncio.ensure_future(session.hello()) for session in sessions]
        async with asyncio.timeout(10):
            while len(deployment.gateway.reception) < len(workers):
                await asyncio.sleep(0.01)
        may_go_on.set()
        names = {welcome.worker_name for welcome in await asyncio.gather(*welcomes)}
        assert names == {f"host-{number}" for number in range(12)}
        assert sum(together) == 12
        assert len(together) <= 3


async def test_a_worker_whose_row_is_held_holds_up_nobody(deployment: Any) -> None:
    """Another's transaction keeps one Hello waiting; the others are answered meanwhile, and that one afterwards."""
    held, other = await deployment.enrol("host-a"), await deployment.enrol("host-b")
    async with (
        await psycopg.AsyncConnection.connect(libpq_url(deployment.settings)) as holder,
        deployment.session(held) as first,
        deployment.session(other) as second,
    ):
        await holder.execute("SELECT 1 FROM workers WHERE id = %s FOR UPDATE", (held.worker_id,))
        waiting = asyncio.ensure_future(first.hello())
        await second.hello()
        assert not waiting.done()
        await holder.rollback()
        assert (await waiting).session_epoch == 1


async def test_a_row_that_is_held_for_long_sends_the_worker_away(
    deployment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told to dial again, and is heard then."""
    monkeypatch.setattr("controller.gateway.reception._PATIENCE_S", 0.2)
    worker = await deployment.enrol("host-a")
    async with await psycopg.AsyncConnection.connect(libpq_url(deployment.settings)) as holder:
        await holder.execute("SELECT 1 FROM workers FOR UPDATE")
        async with deployment.session(worker) as session:
            with pytest.raises((EOFError, aio.AioRpcError), match="UNAVAILABLE"):
                await session.hello()
        await holder.rollback()
    async with deployment.session(worker) as session:
        assert (await session.hello()).session_epoch == 1


async def test_hellos_of_one_worker_follow_each_other(deployment: Any) -> None:
    """However many come at the same instant, each gets an epoch of its own, and the newest stays."""
    worker = await deployment.enrol("host-a")
    async with contextlib.AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(deployment.session(worker)) for _ in range(8)]
        found = await asyncio.gather(*(session.hello() for session in sessions), return_exceptions=True)
        epochs = {
            welcome.session_epoch: session
            for welcome, session in zip(found, sessions, strict=True)
            if not isinstance(welcome, BaseException)
        }
        assert deployment.sql("SELECT session_epoch FROM workers") == [(8,)]
        for epoch, session in epochs.items():
            if epoch < 8:
                assert (await session.ending())[0] == "SUPERSEDED"
        await epochs[8].send(heartbeat={"clock_us": 1})
        await epochs[8].expect("heartbeat")


async def test_a_hello_that_the_database_refuses_spoils_no_other(
    deployment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction is taken apart: the others are opened, the one at fault is sent away."""
    workers = [await deployment.enrol(f"host-{number}") for number in range(4)]
    whole = arrivals.open_sessions

    async def refusing(connection: Any, arrivals: Any, process_id: int) -> Any:
        if any(arrival.hello.worker_version == "poison" for arrival in arrivals):
            await connection.execute("SELECT 1 / 0")
        return await whole(connection, arrivals, process_id)

    monkeypatch.setattr(arrivals, "open_sessions", refusing)
    async with contextlib.AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(deployment.session(worker)) for worker in workers]
        welcomes = await asyncio.gather(
            *(
                session.hello(worker_version="poison" if number == 2 else "good")
                for number, session in enumerate(sessions)
            ),
            return_exceptions=True,
        )
    assert [isinstance(welcome, BaseException) for welcome in welcomes] == [False, False, True, False]


async def test_sessions_that_end_together_are_written_down(deployment: Any) -> None:
    """A row that is held meanwhile is written later; a session that was superseded does not disconnect its worker."""
    workers = [await deployment.enrol(f"host-{number}") for number in range(4)]
    connected = "SELECT host_name FROM workers WHERE gateway_id IS NOT NULL ORDER BY host_name"
    async with (
        deployment.session(workers[0]) as newer,
        await psycopg.AsyncConnection.connect(libpq_url(deployment.settings)) as holder,
    ):
        async with contextlib.AsyncExitStack() as stack:
            for worker in workers:
                await (await stack.enter_async_context(deployment.session(worker))).hello()
            await newer.hello()
            await holder.execute("SELECT 1 FROM workers WHERE id = %s FOR UPDATE", (workers[1].worker_id,))
        async with asyncio.timeout(5):
            while deployment.sql(connected) != [("host-0",), ("host-1",)]:
                await asyncio.sleep(0.02)
        await holder.rollback()
        async with asyncio.timeout(5):
            while deployment.sql(connected) != [("host-0",)]:
                await asyncio.sleep(0.02)


async def test_a_session_that_nobody_takes_is_closed_again(
    deployment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that goes away while its Hello is written is not shown as connected for ever."""
    worker = await deployment.enrol("host-a")
    opening, may_go_on = asyncio.Event(), asyncio.Event()
    whole = arrivals.open_sessions

    async def held(connection: Any, arrivals: Any, process_id: int) -> Any:
        opened = await whole(connection, arrivals, process_id)
        opening.set()
        await may_go_on.wait()
        return opened

    monkeypatch.setattr(arrivals, "open_sessions", held)
    async with deployment.session(worker) as session:
        hello = asyncio.ensure_future(session.hello())
        async with asyncio.timeout(10):
            await opening.wait()
        hello.cancel()
        session.call.cancel()
    assert deployment.sql("SELECT gateway_id IS NULL FROM workers") == [(False,)]
    # The gateway has heard that the call is over when its handler gives up waiting.
    async with asyncio.timeout(10):
        while not all(guest.opened.done() for guest in deployment.gateway.reception.served):
            await asyncio.sleep(0.02)
    may_go_on.set()
    async with asyncio.timeout(10):
        while deployment.sql("SELECT gateway_id IS NULL, disconnected_at IS NOT NULL FROM workers") != [
            (True, True)
        ]:
            await asyncio.sleep(0.05)
    assert len(deployment.gateway.sessions) == 0
