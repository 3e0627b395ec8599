"""The daemon: puts clock, spool, schedule, runner and sessions together, and takes them apart again in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
import uuid

from streamswarm import __version__, collector
from streamswarm.v1 import gateway_pb2, probe_pb2
from worker import notify, probes
from worker.clock import Clock, ControllerTime, SystemClock
from worker.concurrency import cancel, first_of, within
from worker.config import DEFAULT_POLICY, WorkerConfig
from worker.ending import End, SessionEnd
from worker.enrolment import enrol_worker
from worker.errors import IdentityError, StorageError, WorkerError
from worker.facts import boot_id
from worker.greeting import greeting
from worker.identity import Identity, IdentityStore
from worker.jobs import JobStore
from worker.local import Local
from worker.policy import Policy
from worker.resolving import system_resolver
from worker.responders.marks import respond
from worker.runner import Runner
from worker.scheduler import Scheduler
from worker.spool import Limits, Spool
from worker.transport import Dial, dial
from worker.uplink import Backoff, Renewal, Uplink
from worker.used import Used
from worker.vantage.health import Vantage

log = logging.getLogger(__name__)

#: Before the first contact after a boot the wall clock may be wrong; so long the controller's time is waited for.
_FIRST_CONTACT_S = 10.0
_RUNS_END_S = 5.0
_LAST_DELIVERY_S = 2.0
_KEEP_TIME_S = 30.0
_DISK_RETRY_S = 5.0
#: Used instants of jobs that are gone are forgotten after a week.
_FORGET_US = 7 * 86_400_000_000


class Daemon:
    """One worker. Clock and transport are given, so that a simulation can drive it."""

    def __init__(
        self,
        config: WorkerConfig,
        *,
        clock: Clock | None = None,
        dial_gateway: Dial = dial,
        rng: random.Random | None = None,
    ) -> None:
        self._config = config
        self._clock = clock or SystemClock()
        self._boot_id = boot_id()
        self._instance_id = uuid.uuid4().hex
        self._policy = Policy.load(config.policy_file, required=config.policy_file != DEFAULT_POLICY)
        if self._policy.broken:
            log.error("%s", self._policy.broken)
        self._identities = IdentityStore(config.data_dir / "identity")
        self._identity: Identity | None = None
        self._jobs = JobStore(config.data_dir / "jobs.bin")
        self._spool = Spool(
            config.data_dir / "spool.sqlite",
            clock=self._clock,
            limits=Limits(max_bytes=config.spool_mib * 1024 * 1024, max_age_s=config.spool_days * 86_400.0),
        )
        self._dial = dial_gateway
        self._rng = rng
        self._connected = False
        self._scheduling = False
        self._renew_now = asyncio.Event()
        self._hurry = asyncio.Event()

    def renew(self) -> None:
        """Renew the certificate now instead of at half of its life; at once when connected, else as soon as that is so."""
        log.info("asked to renew the certificate now")
        self._renew_now.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set, then end in order: no new runs, results written, delivered if possible."""
        if not await self._open_spool(stop):
            return
        try:
            await self._run_open(stop)
        finally:
            await self._spool.close()
            log.info("stopped; %d results wait in the spool", self._spool.records)

    async def _open_spool(self, stop: asyncio.Event) -> bool:
        while True:
            try:
                await self._spool.open()
            except StorageError as error:
                log.error("nothing can be measured: %s", error)
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(stop.wait(), _DISK_RETRY_S)
                if stop.is_set():
                    return False
            else:
                return True

    async def _run_open(self, stop: asyncio.Event) -> None:
        self._time = ControllerTime(self._clock, boot_id=self._boot_id, kept=await self._spool.recall("time"))
        self._spool.now_us = self._time.now_us
        self._vantage = Vantage(self._clock, self._policy)
        self._runner = Runner(
            policy=self._policy,
            clock=self._clock,
            controller_time=self._time,
            load=probes.load,
            resolve=system_resolver(),
            places=self._config.concurrent_runs,
            vantage=self._vantage,
            databases=self._config.databases_dir,
            responder_keys=self._config.responder_keys,
        )
        self._scheduler = Scheduler(
            clock=self._clock,
            controller_time=self._time,
            execute=self._runner.run,
            deliver=self._deliver,
            miss=self._spool.miss,
            refusal=self._spool.refusal,
            used=await self._spool.used(),
        )
        self._jobs.load()
        collector.settle()
        log.info(
            "started: version %s, %d jobs known, %d results wait in the spool",
            __version__,
            len(self._jobs.jobs),
            self._spool.records,
        )
        notify.tell(f"not connected yet, version {__version__}")
        uplink = Uplink(
            gateways=self._config.gateways,
            identify=self._identify,
            local=self._local,
            dial=self._dial,
            ended=self._session_ended,
            clock=self._clock,
            rng=self._rng,
        )
        schedule = asyncio.ensure_future(self._keep_schedule())
        connection = asyncio.ensure_future(uplink.run())
        housekeeping = asyncio.ensure_future(self._keep_time())
        watching = asyncio.ensure_future(self._vantage.watch())
        responding = asyncio.ensure_future(
            respond(self._policy, self._config.responder_keys, self._clock, self._time.now_us)
        )
        try:
            await first_of(
                stop.wait(),
                _ended(schedule),
                _ended(connection),
                _ended(housekeeping),
                _ended(watching),
                _ended(responding),
                self._spool.watch(),
            )
        finally:
            await cancel(schedule, housekeeping, watching, responding)
            await self._scheduler.stop(grace_s=_RUNS_END_S)
            await self._deliver_last(connection)
            await cancel(connection)
            await self._save_time()

    async def _keep_schedule(self) -> None:
        if not self._time.synchronised:
            with contextlib.suppress(asyncio.TimeoutError):
                await within(self._clock, _FIRST_CONTACT_S, self._time.wait_synchronised())
        self._scheduler.set_jobs(self._jobs.jobs.values())
        self._scheduling = True
        await self._scheduler.run()

    async def _keep_time(self) -> None:
        while True:
            await self._clock.sleep(_KEEP_TIME_S)
            await self._save_time()
            await self._jobs.save()
            await self._forget_used()

    async def _forget_used(self) -> None:
        """Forget what jobs have used that are gone for long, or every "run now" would be remembered for good."""
        before_us = self._time.now_us() - _FORGET_US
        self._scheduler.forget_used(before_us)
        try:
            await self._spool.forget_used(keep=frozenset(self._jobs.jobs), before_us=before_us)
        except StorageError as error:
            log.warning("what jobs that are gone have used cannot be forgotten now: %s", error)

    async def _save_time(self) -> None:
        kept = self._time.keep()
        if kept:
            try:
                await self._spool.remember("time", kept)
            except StorageError as error:
                log.warning("the controller's time could not be kept for the next start: %s", error)

    async def _deliver(self, result: probe_pb2.Result, used: Used) -> None:
        await self._spool.append(result, used=used)

    async def _deliver_last(self, connection: asyncio.Future[None]) -> None:
        """Give the session a moment to deliver what the last runs have left."""
        self._hurry.set()
        for _ in range(int(_LAST_DELIVERY_S / 0.05)):
            if not self._spool.first_unacked_seq or connection.done() or not self._connected:
                return
            await self._clock.sleep(0.05)

    # -- what the sessions need --------------------------------------------------------------------------------

    async def _identify(self) -> Identity:
        """Return this worker's identity, enrolling it if need be; waits as long as there is none."""
        pauses = Backoff(self._rng or random.Random())  # noqa: S311  spreads the workers, hides nothing
        while True:
            try:
                identity = self._identity or self._identities.load()
                if identity is not None and self._time.now_us() >= identity.not_after_us:
                    log.error("the certificate of this worker has expired")
                    identity = None
                if identity is None:
                    identity = await enrol_worker(self._config, self._identities)
                self._identity = identity
                return identity
            except WorkerError as error:
                log.error("not connected: %s", error)
                if isinstance(error, IdentityError):
                    self._identity = None
            await self._clock.sleep(pauses.next_s())

    def _local(self, identity: Identity) -> Local:
        renewal = Renewal(identity, self._take_identity)
        return Local(
            spool=self._spool,
            clock=self._clock,
            time=self._time,
            hello=self._hello,
            welcomed=self._welcomed,
            take_jobs=self._take_jobs,
            state=lambda: (self._jobs.revision, self._scheduler.running, self._vantage.alarm),
            renew_at_us=identity.renew_at_us,
            not_after_us=identity.not_after_us,
            start_renewal=renewal.start,
            finish_renewal=renewal.finish,
            renew_now=self._renew_now,
            hurry=self._hurry,
        )

    def _hello(self) -> gateway_pb2.Hello:
        return greeting(
            self._config,
            self._policy,
            instance_id=self._instance_id,
            boot_id=self._boot_id,
            kinds=self._runner.availabilities(),
        )

    async def _welcomed(self, welcome: gateway_pb2.Welcome) -> None:
        log.info(
            "connected as %s (session %d)", welcome.worker_name or welcome.worker_id, welcome.session_epoch
        )
        self._connected = True
        notify.tell(
            f"{notify.CONNECTED} as {welcome.worker_name or welcome.worker_id}, version {__version__}"
        )
        self._scheduler.suspended = ""
        await self._remember_refusal("")
        await self._save_time()

    async def _take_jobs(self, jobs: gateway_pb2.JobSet) -> None:
        await self._jobs.apply(jobs)
        if self._scheduling:
            self._scheduler.set_jobs(self._jobs.jobs.values())
        log.info("%d jobs in force (revision %d)", len(self._jobs.jobs), self._jobs.revision)

    def _take_identity(self, identity: Identity) -> None:
        self._identities.save(identity)
        self._identity = identity
        self._renew_now.clear()

    async def _session_ended(self, end: SessionEnd) -> None:
        self._connected = False
        notify.tell(f"not connected: {end.reason}")
        if end.end is End.REVOKED:
            self._scheduler.suspended = "the controller has revoked this worker"
        if end.end in (End.REFUSED, End.REVOKED):
            # Somebody may have put another identity in place meanwhile.
            self._identity = None
            await self._remember_refusal(end.reason)

    async def _remember_refusal(self, reason: str) -> None:
        """Keep why the controller does not want this worker, for the doctor; empty when it does."""
        try:
            await self._spool.remember("refusal", reason)
        except StorageError as error:
            log.warning("why the controller refuses this worker could not be kept: %s", error)


async def serve(config: WorkerConfig) -> None:
    """Run the daemon until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:  # Windows: the interpreter's own handling has to do
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    daemon = Daemon(config)
    if hasattr(signal, "SIGHUP"):  # not on Windows
        loop.add_signal_handler(signal.SIGHUP, daemon.renew)
    await daemon.run(stop)


async def _ended(work: asyncio.Future[None]) -> bool:
    """Wait for something that does not end by itself; raises what broke it."""
    await asyncio.shield(work)
    return True
