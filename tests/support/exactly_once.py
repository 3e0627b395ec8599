"""A model of exactly once: real spool, real worker session, real gateways and PostgreSQL, and faults between any two steps.

Only the wire is not real: it is a pair of queues that can be cut, held up, and left half open, with messages on the
way that arrive late or never. What a sequence of steps has spooled must in the end be stored, each run once.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import itertools
import shutil
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from support.wire import Wire

from controller.gateway.identity import Peer
from controller.gateway.server import RunningGateway, running
from controller.settings import Settings
from controller.store.engine import libpq_url
from streamswarm.v1 import gateway_pb2, probe_pb2
from worker.clock import ControllerTime, SystemClock
from worker.ending import SessionEnd
from worker.local import Local
from worker.session import Session
from worker.spool import Spool

T = TypeVar("T")

_DRAIN_S = 20.0
_SETTLE_S = 0.01
_GATEWAYS = 2
#: An instant no partition is missing for, and from which runs of this model are due.
_START_US = int(dt.datetime.now(dt.UTC).timestamp()) // 86_400 * 86_400_000_000


class QuickClock(SystemClock):
    """The host's clock, except that short waits, which only gather what comes together, take no time."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0 if seconds <= 0.1 else seconds)


class Stage:
    """What all sequences share: the gateways, their database, and the event loop on which everything runs."""

    def __init__(self, settings: Settings) -> None:
        self.loop = asyncio.new_event_loop()
        self.settings = settings
        self._exit = contextlib.AsyncExitStack()
        self.gateways: list[RunningGateway] = [
            self.do(self._exit.enter_async_context(running(self._settings(number))))
            for number in range(_GATEWAYS)
        ]
        self.connection = psycopg.connect(libpq_url(settings), autocommit=True)

    def do(self, work: Awaitable[T], within_s: float = 60.0) -> T:
        """Run the loop until some work is done."""
        return self.loop.run_until_complete(asyncio.wait_for(work, within_s))

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows, if it has any."""
        cursor = self.connection.execute(statement.encode(), values or None)
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        """Stop the gateways."""
        self.do(self._exit.aclose())
        self.connection.close()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def _settings(self, number: int) -> Settings:
        values = {
            **{name: getattr(self.settings, name) for name in ("database_url", "data_dir", "trust_domain")},
            "gateway_name": f"model-{number}",
            "gateway_listen": "127.0.0.1:0",
            "enrolment_listen": "127.0.0.1:0",
        }
        return Settings(**values)


@contextlib.contextmanager
def stage(settings: Settings) -> Iterator[type[ExactlyOnce]]:
    """Run the gateways; yields the model to run sequences of."""
    made = Stage(settings)
    try:
        yield type("ExactlyOnceOnStage", (ExactlyOnce,), {"stage": made})
    finally:
        made.close()


class ExactlyOnce(RuleBasedStateMachine):
    """One worker with one spool, its sessions, and what happens to them."""

    stage: Stage

    @initialize()
    def begin(self) -> None:
        """Make a worker that the gateways know, with one job and an empty spool."""
        self.folder = Path(tempfile.mkdtemp(prefix="exactly-once-"))
        self.clock = QuickClock()
        serial = uuid.uuid4().hex
        ((worker_id,),) = self.stage.sql(
            "INSERT INTO workers (name, host_name, enrolled_at) VALUES (%s, %s, now()) RETURNING id", serial, serial
        )  # fmt: skip
        self.stage.sql(
            "INSERT INTO certificates (serial, worker_id, not_before, not_after) "
            "VALUES (%s, %s, now(), now() + interval '1 day')",
            serial,
            worker_id,
        )
        ((test_id,),) = self.stage.sql(
            "INSERT INTO tests (name, kind, spec, interval_s) VALUES (%s, 'tcp', '{}', 1) RETURNING id",
            serial,
        )
        ((self.job_id,),) = self.stage.sql(
            "INSERT INTO jobs (test_id, worker_id, kind, target, spec, interval_us, anchor_us) "
            "VALUES (%s, %s, 'tcp', '127.0.0.1:1', '{}', 1000000, 0) RETURNING id",
            test_id,
            worker_id,
        )
        self.worker_id = uuid.UUID(str(worker_id))
        self.peer = Peer(
            worker_id=self.worker_id, serial=serial, not_after=dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
        )
        self.numbers = itertools.count()
        #: Runs that were spooled, and those of them that a spool set back has forgotten before they were stored.
        self.spooled: set[int] = set()
        self.forgotten: set[int] = set()
        self.copies: list[tuple[dict[str, bytes], set[int]]] = []
        self.wire: Wire | None = None
        #: Wires that the worker has given up, while their gateways still read from them.
        self.half_open: list[Wire] = []
        self.sessions: list[asyncio.Task[SessionEnd]] = []
        self.serving: list[asyncio.Task[Any]] = []
        self.blocker: psycopg.Connection[Any] | None = None
        self._open_spool()

    # -- the worker's life --------------------------------------------------------------------------------------

    @rule(count=st.integers(1, 40))
    def spool_results(self, count: int) -> None:
        """Runs end; their results are spooled."""
        numbers = list(itertools.islice(self.numbers, count))
        self.stage.do(_all(self.spool.append(self._result(number)) for number in numbers))
        self.spooled.update(numbers)

    @rule()
    def be_killed(self) -> None:
        """Kill -9 of the daemon: its files stay as they are, its connection is gone or stays half open."""
        self._end_session(half_open=False)
        self._reopen(self._files())

    @rule()
    def keep_a_copy(self) -> None:
        """Somebody copies the disk."""
        self.copies.append((self._files(), self._waiting()))

    @precondition(lambda self: self.copies)
    @rule(copy=st.integers(0, 9))
    def be_set_back(self, copy: int) -> None:
        """The disk is restored from a copy. What was spooled since then and has not been stored may be gone."""
        files, held = self.copies[copy % len(self.copies)]
        self._end_session(half_open=False)
        self.forgotten |= self._waiting() - held
        self._reopen(files)

    # -- connections ---------------------------------------------------------------------------------------------

    @precondition(lambda self: self.blocker is None)
    @rule(gateway=st.integers(0, _GATEWAYS - 1), half_open=st.booleans(), hold_acks=st.booleans())
    def connect(self, gateway: int, half_open: bool, hold_acks: bool) -> None:
        """A session begins, on any gateway; an older one is over for the worker, but perhaps not for its gateway."""
        self._end_session(half_open=half_open)
        self.wire = Wire()
        self.stage.do(self._begin_session(self.stage.gateways[gateway], self.wire))
        self._settle()
        self.wire.hold_down = hold_acks

    @precondition(lambda self: self.wire is not None)
    @rule(half_open=st.booleans())
    def lose_the_connection(self, half_open: bool) -> None:
        """The stream ends, for the worker at once, for the gateway perhaps later."""
        self._end_session(half_open=half_open)
        self._settle()

    @precondition(lambda self: self.wire is not None)
    @rule(up=st.booleans(), down=st.booleans())
    def hold_up_the_wire(self, up: bool, down: bool) -> None:
        """Messages wait on their way, or go on."""
        assert self.wire is not None
        self.wire.hold_up, self.wire.hold_down = up, down
        self.wire.change()
        self._settle()

    @precondition(lambda self: self.half_open)
    @rule(arrive=st.booleans())
    def resolve_a_half_open_stream(self, arrive: bool) -> None:
        """What was on the way in an old stream arrives after all; or the gateway notices that the stream is dead."""
        wire = self.half_open.pop(0)
        wire.hold_up = False
        if arrive:
            wire.change()
            self._settle()
        wire.cut()
        self._settle()

    # -- the gateways' and the database's life ---------------------------------------------------------------------

    @precondition(lambda self: self.blocker is None)
    @rule()
    def stall_the_transaction(self) -> None:
        """Somebody holds the worker's row: what a gateway stores now waits inside its transaction."""
        self.blocker = psycopg.connect(libpq_url(self.stage.settings))
        lock = "SELECT 1 FROM workers WHERE id = %s FOR UPDATE"
        # Beside the loop: a gateway may have the row, and goes on only while the loop does.
        self.stage.do(asyncio.to_thread(self.blocker.execute, lock, (self.worker_id,)))

    @precondition(lambda self: self.blocker is not None)
    @rule(break_off=st.booleans(), cut=st.booleans())
    def end_the_stall(self, break_off: bool, cut: bool) -> None:
        """The transaction goes on, or its session in the database is ended; the worker may be gone meanwhile.

        With the wire cut this is a gateway that died before its COMMIT, or after it and before the acknowledgement.
        """
        if cut:
            self._end_session(half_open=False)
        if break_off:
            self._end_database_sessions()
        self._release()
        self._settle()

    @rule()
    def break_the_database_off(self) -> None:
        """All sessions of the gateways in the database are ended."""
        self._end_database_sessions()
        self._settle()

    @rule()
    def let_time_pass(self) -> None:
        """Everything goes on for a moment."""
        self._settle(3)

    # -- the end ---------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Let everything arrive that can, then compare."""
        if not hasattr(self, "spool"):
            return
        try:
            self._release()
            while self.half_open:
                self.resolve_a_half_open_stream(arrive=True)
            self._end_session(half_open=False)
            end = time.monotonic() + _DRAIN_S
            while self.spool.first_unacked_seq:
                assert time.monotonic() < end, f"not delivered: from {self.spool.first_unacked_seq} on"
                if not self.sessions or self.sessions[-1].done():
                    self.connect(gateway=0, half_open=False, hold_acks=False)
                self._settle()
            self._end_session(half_open=False)
            self._compare()
        finally:
            self._close()

    def _compare(self) -> None:
        stored = Counter(
            (due_us - _START_US) // 1_000_000
            for (due_us,) in self.stage.sql(
                "SELECT (extract(epoch FROM scheduled_at) * 1000000)::bigint FROM result_tcp WHERE job_id = %s",
                self.job_id,
            )
        )
        lost = self.spooled - self.forgotten - stored.keys()
        assert not lost, f"not exactly once: lost {sorted(lost)}"
        assert not stored.keys() - self.spooled, "not exactly once: stored what was never spooled"
        assert stored.total() == len(stored), "not exactly once: stored twice"
        refused = self.stage.sql("SELECT reason FROM quarantine WHERE worker_id = %s", self.worker_id)
        assert refused == [], "not exactly once: refused"

    # -- inside ------------------------------------------------------------------------------------------------------

    def _result(self, number: int) -> probe_pb2.Result:
        due_us = _START_US + number * 1_000_000
        result = probe_pb2.Result(
            job_id=self.job_id, job_version=1, scheduled_at_us=due_us, started_at_us=due_us, status=1
        )
        result.tcp.connect_ms = 1.0
        return result

    def _local(self) -> Local:
        async def nothing(_: Any) -> None:
            return None

        async def refuse(_: Any) -> bool:
            return False

        return Local(
            spool=self.spool,
            clock=self.clock,
            time=ControllerTime(self.clock),
            hello=lambda: gateway_pb2.Hello(worker_version="model", contract_version=1),
            welcomed=nothing,
            take_jobs=nothing,
            state=lambda: (0, 0, ""),
            renew_at_us=2**62,
            not_after_us=2**62,
            start_renewal=bytes,
            finish_renewal=refuse,
        )

    async def _begin_session(self, gateway: RunningGateway, wire: Wire) -> None:
        async def serve() -> None:
            await gateway._open_session(self.peer, wire.gateway_end).run()
            wire.finished = True
            wire.change()

        self.serving.append(asyncio.ensure_future(serve()))
        self.sessions.append(asyncio.ensure_future(Session(wire.worker_end, self._local()).run()))

    def _open_spool(self) -> None:
        self.spool = Spool(self.folder / "spool.sqlite", clock=self.clock)
        self.stage.do(self.spool.open())

    def _files(self) -> dict[str, bytes]:
        """What a copy of the disk would hold now."""
        paths = [self.folder / "spool.sqlite", self.folder / "spool.sqlite-wal"]
        return {path.name: path.read_bytes() for path in paths if path.exists()}

    def _waiting(self) -> set[int]:
        """Numbers of the runs that wait in the spool."""
        records = self.stage.do(self.spool.read(0, limit=10**6, max_bytes=10**9))
        due = (probe_pb2.Result.FromString(record.body).scheduled_at_us for record in records)
        return {(due_us - _START_US) // 1_000_000 for due_us in due}

    def _reopen(self, files: dict[str, bytes]) -> None:
        """Go on with these files, as a new daemon does."""
        self.stage.do(self.spool.close())
        for path in self.folder.glob("spool.sqlite*"):
            path.unlink()
        for name, content in files.items():
            (self.folder / name).write_bytes(content)
        self._open_spool()

    def _end_session(self, *, half_open: bool) -> None:
        """End the worker's session, if there is one."""
        if self.wire is None:
            return
        self.wire.cut(gateway=not half_open)
        if half_open:
            self.wire.hold_up = True
            self.half_open.append(self.wire)
        self.wire = None
        self.stage.do(asyncio.wait([self.sessions[-1]]))

    def _end_database_sessions(self) -> None:
        self.stage.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'streamswarm-gateway'"
        )

    def _release(self) -> None:
        if self.blocker is not None:
            self.blocker.close()
            self.blocker = None

    def _settle(self, times: int = 1) -> None:
        """Let the loop and its threads go on for a moment."""
        self.stage.do(asyncio.sleep(_SETTLE_S * times))

    def _close(self) -> None:
        self._release()
        for wire in self.half_open:
            wire.cut()
        if self.wire is not None:
            self.wire.cut()
        ending = [*self.sessions, *self.serving]
        if ending:
            self.stage.do(asyncio.wait(ending))
        for task in ending:
            task.result()
        self.stage.do(self.spool.close())
        shutil.rmtree(self.folder)


async def _all(works: Iterator[Awaitable[Any]] | Any) -> None:
    await asyncio.gather(*works)
