"""One keeper: takes tasks from the queue, defers the periodic ones, and shows that it lives.

When the database goes away the keeper waits and comes back; nothing that was queued is lost, and what was cut
short is rescued.

A keeper that is told to stop ends within half a minute, whatever its tasks do. One that runs an operation on the fleet
ends after it: the operation is interrupted, but hosts that are being returned to the release before get there first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
import threading
import time

import psycopg
import psycopg_pool
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from controller.errors import DatabaseUnavailableError
from controller.keeper.rescue import rescue
from controller.keeper.tasks import Tools, add_tasks
from controller.logs import Trouble, reason
from controller.settings import Settings
from controller.store import health, schema
from controller.store.commands import operations, roots
from controller.store.engine import libpq_url, make_engine
from controller.store.upkeep import believed

_log = logging.getLogger(__name__)

CONCURRENCY = 4
#: The queue's own heartbeat and look for tasks; the latter is a fallback for a notice that got lost.
_QUEUE_HEARTBEAT_S = 2.0
_POLL_S = 1.0
_GRACE_S = 8.0
#: A keeper that is stopped inside a transaction loses it after so long, and its successor goes on.
_IDLE_IN_TRANSACTION_S = 5.0
_LONGEST_PAUSE_S = 5.0
#: Tasks that go on for so long after the keeper was told to stop are left to another one.
_LEAVE_AFTER_S = 25.0


def make_app(settings: Settings) -> App:
    """Return the queue's application with all tasks; it is not open yet."""
    connector = PsycopgConnector(
        conninfo=libpq_url(settings),
        kwargs={
            "application_name": "streamswarm-keeper-queue",
            "options": "-c timezone=UTC -c statement_timeout=30000 -c idle_in_transaction_session_timeout=5000",
        },
        min_size=1,
        max_size=CONCURRENCY + 2,
        timeout=10.0,
    )
    app = App(connector=connector)
    add_tasks(app)
    return app


async def serve(settings: Settings) -> None:
    """Check the database, then work until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    engine = make_engine(
        settings,
        application="streamswarm-keeper",
        pool_size=CONCURRENCY + 2,
        idle_in_transaction_s=_IDLE_IN_TRANSACTION_S,
    )
    tools = Tools(engine=engine, settings=settings)

    def told() -> None:
        stop.set()
        threading.Thread(target=_leave, args=(tools,), name="leaving", daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    try:
        await asyncio.to_thread(_check, settings, engine)
        await run(tools, stop)
    finally:
        engine.dispose()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _check(settings: Settings, engine: Engine) -> None:
    schema.check(engine)
    roots.check_at_start(engine, settings.data_dir)


def _leave(tools: Tools) -> None:
    """End the process although tasks go on; the end of the queue's worker and of the program wait for their threads."""
    time.sleep(_LEAVE_AFTER_S)
    while tools.operating:
        time.sleep(1.0)
    # What was the last one ends the program by itself.
    time.sleep(1.0)
    _log.warning("the keeper leaves a task that does not end; it is taken up again")
    logging.shutdown()
    os._exit(0)


async def run(tools: Tools, stop: asyncio.Event) -> None:
    """Work until `stop` is set."""
    pulse = asyncio.create_task(_keep_pulse(tools.engine, stop))
    pause = 0.1
    trouble = Trouble(
        _log, failing="the keeper lost its queue and looks for it", working="the keeper has its queue again"
    )
    _log.info("the keeper starts")
    try:
        while not stop.is_set():
            try:
                await _work(make_app(tools.settings), tools, stop, trouble)
                pause = 0.1
                why = "its worker ended by itself"
            except (ConnectorException, psycopg.Error, psycopg_pool.PoolTimeout, OperationalError) as error:
                why = reason(error)
            if not stop.is_set():
                trouble.failed(why)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), random.uniform(pause / 2, pause))  # noqa: S311
                pause = min(pause * 2, _LONGEST_PAUSE_S)
    finally:
        stop.set()
        await pulse
    _log.info("the keeper has stopped")


async def _work(app: App, tools: Tools, stop: asyncio.Event, trouble: Trouble) -> None:
    """Take tasks until `stop` is set or the queue fails."""
    async with app.open_async():
        # Not in an hour: the tables of a new installation have no partitions at all.
        with contextlib.suppress(AlreadyEnqueued):
            await app.configure_task("partitions").defer_async(timestamp=int(time.time()))
        trouble.worked()
        worker = asyncio.create_task(
            app.run_worker_async(
                name=f"keeper@{socket.gethostname()}",
                concurrency=CONCURRENCY,
                fetch_job_polling_interval=_POLL_S,
                update_heartbeat_interval=_QUEUE_HEARTBEAT_S,
                shutdown_graceful_timeout=_GRACE_S,
                delete_jobs="successful",
                install_signal_handlers=False,
                additional_context={"tools": tools},
            )
        )
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({worker, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if stop.is_set():
                tools.stopping.set()
            stopping.cancel()
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker


async def _keep_pulse(engine: Engine, stop: asyncio.Event) -> None:
    """Refresh this keeper's heartbeat, look after dead gateways and runners, rescue tasks, every few seconds."""
    process_id: int | None = None
    trouble = Trouble(
        _log, failing="the database cannot be reached", working="the database can be reached again"
    )
    while not stop.is_set():
        try:
            process_id = await asyncio.to_thread(_beat, engine, process_id)
            await asyncio.to_thread(rescue, engine)
            await asyncio.to_thread(_interrupt_silent, engine)
            trouble.worked()
        except (OperationalError, DatabaseUnavailableError) as error:
            trouble.failed(reason(error))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), health.HEARTBEAT_S)
    if process_id is not None:
        with contextlib.suppress(OperationalError):
            await asyncio.to_thread(_end, engine, process_id)


def _beat(engine: Engine, process_id: int | None) -> int:
    with engine.begin() as connection:
        ahead = believed.read_clocks(connection).offset
        gauges = {"clock_offset_ms": round(ahead.total_seconds() * 1000, 3)}
        if process_id is None or not health.heartbeat(connection, process_id, gauges):
            process_id = health.register_process(connection, "keeper", f"keeper@{socket.gethostname()}")
        orphans = health.disconnect_orphans(connection)
    if orphans:
        _log.warning("%s workers were on a gateway that died; they are marked as disconnected", orphans)
    return process_id


def _interrupt_silent(engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        count = operations.interrupt_silent(session)
    if count:
        _log.warning("%s operations on the fleet lost who ran them; they are marked as interrupted", count)


def _end(engine: Engine, process_id: int) -> None:
    with engine.begin() as connection:
        health.stop_process(connection, process_id)
