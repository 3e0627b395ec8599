"""Draining: what waits in the spool of a worker that is to be taken away is delivered, and nothing else is done.

The daemon itself delivers for two seconds when it is stopped, so that a restart is quick. Here the spool of a daemon
that has ended is delivered for as long as it takes, up to a bound: one session after the other, without a schedule.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from dataclasses import dataclass

from streamswarm import contract
from streamswarm.v1 import gateway_pb2
from worker.clock import Clock, ControllerTime, SystemClock
from worker.concurrency import cancel
from worker.config import DEFAULT_POLICY, WorkerConfig
from worker.ending import End, SessionEnd
from worker.errors import IdentityError, WorkerError
from worker.facts import boot_id
from worker.greeting import greeting
from worker.identity import Identity, IdentityStore
from worker.local import Local
from worker.policy import Policy
from worker.spool import Spool
from worker.transport import Dial, dial
from worker.uplink import Renewal, Uplink

_LOOK_S = 0.05
#: The controller does not want this worker: waiting on is no use.
_FOR_GOOD = (End.REFUSED, End.REVOKED)


@dataclass(frozen=True, kw_only=True)
class Drained:
    """What came of draining."""

    #: Results that the controller has not acknowledged.
    waiting: int
    #: Why they wait, for people; empty when none does.
    reason: str = ""


async def drain(
    config: WorkerConfig, *, wait_s: float, clock: Clock | None = None, dial_gateway: Dial = dial
) -> Drained:
    """Deliver what the spool holds, for `wait_s` seconds at most; returns how much still waits and why.

    The caller holds the lock of the data folder. A worker that never measured has no spool, and gets none.
    Raises StorageError when the disk does not allow to look into it.
    """
    path = config.data_dir / "spool.sqlite"
    if not any(config.data_dir.glob("spool*.sqlite*")):
        return Drained(waiting=0)
    clock = clock or SystemClock()
    spool = Spool(path, clock=clock)
    await spool.open()
    try:
        reason = await _Drain(config, spool, clock, dial_gateway).run(wait_s) if not spool.all_told else ""
    finally:
        await spool.close()
    return Drained(
        waiting=spool.records,
        reason=(reason or f"they were not acknowledged within {wait_s:g} s") if spool.records else "",
    )


class _Drain:
    """Holds sessions that do nothing but deliver."""

    def __init__(self, config: WorkerConfig, spool: Spool, clock: Clock, dial_gateway: Dial) -> None:
        self._config = config
        self._spool = spool
        self._clock = clock
        self._dial = dial_gateway
        self._boot_id = boot_id()
        self._policy = Policy.load(config.policy_file, required=config.policy_file != DEFAULT_POLICY)
        self._identities = IdentityStore(config.data_dir / "identity")
        #: How the last session ended.
        self._reason = ""
        self._refused = asyncio.Event()

    async def run(self, wait_s: float) -> str:
        """Deliver until nothing waits, the controller refuses, or the time is over; returns why it did not come to an end."""
        self._time = ControllerTime(self._clock, boot_id=self._boot_id, kept=await self._spool.recall("time"))
        uplink = Uplink(
            gateways=self._config.gateways,
            identify=self._identify,
            local=self._local,
            dial=self._dial,
            ended=self._session_ended,
            clock=self._clock,
            rng=random.Random(),  # noqa: S311  spreads the workers, hides nothing
        )
        connection = asyncio.ensure_future(uplink.run())
        end_us = self._clock.steady_us() + int(wait_s * 1e6)
        try:
            while not self._spool.all_told and self._clock.steady_us() < end_us:
                if self._refused.is_set() or connection.done():
                    break
                await self._clock.sleep(_LOOK_S)
            if connection.done() and not connection.cancelled():
                error = connection.exception()
                if isinstance(error, WorkerError):
                    return str(error)
                if error is not None:
                    raise error
        finally:
            await cancel(connection)
        return self._reason

    async def _identify(self) -> Identity:
        identity = self._identities.load()
        if identity is None:
            raise IdentityError("this worker has no identity, so nobody takes its results")
        if self._time.now_us() >= identity.not_after_us:
            raise IdentityError(
                "the certificate of this worker has expired, so nobody takes its results",
                mend="provision the host with streamswarm_worker_enrol_again first",
            )
        return identity

    def _local(self, identity: Identity) -> Local:
        renewal = Renewal(identity, self._identities.save)
        return Local(
            spool=self._spool,
            clock=self._clock,
            time=self._time,
            hello=self._hello,
            welcomed=_take_no_part,
            take_jobs=_take_no_part,
            state=lambda: (0, 0, ""),
            renew_at_us=identity.renew_at_us,
            not_after_us=identity.not_after_us,
            start_renewal=renewal.start,
            finish_renewal=renewal.finish,
        )

    def _hello(self) -> gateway_pb2.Hello:
        """Say who this is; no kind is available, so that what may run elsewhere is planned elsewhere."""
        return greeting(
            self._config,
            self._policy,
            instance_id=uuid.uuid4().hex,
            boot_id=self._boot_id,
            kinds=[
                gateway_pb2.KindAvailability(kind=kind, available=False, reason="the worker is being drained")
                for kind in contract.kinds()
            ],
        )

    async def _session_ended(self, end: SessionEnd) -> None:
        self._reason = end.reason
        if end.end in _FOR_GOOD:
            self._refused.set()


async def _take_no_part(_: gateway_pb2.Welcome | gateway_pb2.JobSet) -> None:
    """Take note of a message that asks for nothing here: jobs are not run any more."""
