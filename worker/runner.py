"""One run: checks what is asked, calls the kind's probe with a time limit, and puts the outcome into a result.

Whatever goes wrong becomes a result that says what and whose fault it is; nothing that a job or a probe does can
take the worker down.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamswarm import contract
from streamswarm.v1 import gateway_pb2, probe_pb2
from worker import resolving
from worker.budget import Budget, usual_need
from worker.clock import Clock, ControllerTime
from worker.envelope import ended, envelope
from worker.failures import NO_ROOM, internal_failure, vantage_broken, vantage_failure
from worker.policy import Policy, RunGuard
from worker.probing import Availability, IPAddress, Need, Outcome, ProbeContext, ProbeFailure, Resolver
from worker.reaching import must_be_unreachable, reached, turn_round
from worker.vantage.health import Vantage
from worker.vantage.timekeeping import clock_fault
from worker.wire.addresses import unmapped
from worker.wire.deadline import time_limit
from worker.wire.source import BY_ROUTES, Source

log = logging.getLogger(__name__)

#: How long a run waits for a place among those under way.
_PLACE_WAIT_S = 1.0
#: How long a probe may take to tidy up after it was told to stop.
_CANCEL_WAIT_S = 2.0
#: How long sending to a further address of a network may take.
_PACKET_S = 50e-6
#: How long a run that failed waits at most until it is known whether this host is at fault.
_LOOK_S = 10.0
#: How long an unavailable kind is believed to stay so; something may have been installed meanwhile.
_UNAVAILABLE_S = 30.0


@dataclass(frozen=True, kw_only=True)
class _Checked:
    """A job that may run."""

    kind: contract.Kind
    target: Any
    spec: Any
    module: Any
    #: Longest time that the run may take.
    limit_s: float
    #: The most that it may send and receive.
    need: Need


class Runner:
    """Runs jobs. `load` returns a kind's probe module and may raise ImportError."""

    def __init__(
        self,
        *,
        policy: Policy,
        clock: Clock,
        controller_time: ControllerTime,
        load: Callable[[str], Any],
        resolve: Resolver,
        places: int = 256,
        vantage: Vantage | None = None,
        databases: Path | None = None,
        responder_keys: tuple[str, ...] = (),
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._time = controller_time
        self._load = load
        self._resolve = resolve
        self._places = places
        self._vantage = vantage
        self._databases = databases
        self._responder_keys = responder_keys
        self._budget = Budget(policy, clock)
        self._known: dict[str, tuple[Availability, int]] = {}
        #: Runs under way.
        self.running = 0

    def availabilities(self) -> list[gateway_pb2.KindAvailability]:
        """Return for every kind whether this host can run it, and if not, why and what mends it."""
        found = {kind: self._availability(kind) for kind in contract.kinds()}
        return [
            gateway_pb2.KindAvailability(kind=kind, available=it.available, reason=it.reason, mend=it.mend)
            for kind, it in found.items()
        ]

    async def run(self, job: probe_pb2.Job, scheduled_at_us: int) -> probe_pb2.Result:
        """Run a job once; returns a result whatever happens, except when cancelled."""
        if not await self._find_place():
            result = envelope(job, scheduled_at_us, clock=self._clock, controller_time=self._time)
            return ended(
                result,
                probe_pb2.STATUS_MISSED,
                probe_pb2.FAILURE_SOURCE_VANTAGE,
                probe_pb2.FAILURE_REASON_NO_ROOM,
                f"{self._places} runs are under way on this host, which is the most at a time",
            )
        self.running += 1
        try:
            return await self._run(job, scheduled_at_us)
        finally:
            self.running -= 1

    def refusal(self, job: probe_pb2.Job) -> probe_pb2.Result | None:
        """Return the result of a job that cannot be run here; None when nothing speaks against it. Nothing is sent."""
        result = envelope(job, self._clock.wall_us(), clock=self._clock, controller_time=self._time)
        try:
            self._check(job)
        except (ProbeFailure, contract.InvalidInputError) as error:
            self._take_refusal(job, result, error)
            return result
        return None

    async def _find_place(self) -> bool:
        """Wait a little until fewer runs are under way than there are places; False when it stays full."""
        deadline_us = self._clock.steady_us() + _PLACE_WAIT_S * 1e6
        while self.running >= self._places:
            if self._clock.steady_us() >= deadline_us:
                return False
            await self._clock.sleep(_PLACE_WAIT_S / 20)
        return True

    async def _run(self, job: probe_pb2.Job, scheduled_at_us: int) -> probe_pb2.Result:
        result = envelope(job, scheduled_at_us, clock=self._clock, controller_time=self._time)
        started_us = self._clock.steady_us()
        ran_us: int | None = None
        try:
            checked = self._check(job)
            refusal = self._budget.refusal(checked.need)
            if refusal:
                return ended(
                    result,
                    probe_pb2.STATUS_MISSED,
                    probe_pb2.FAILURE_SOURCE_POLICY,
                    probe_pb2.FAILURE_REASON_LIMIT_USED_UP,
                    refusal,
                )
            guard = self._policy.guard(self._resolve)
            taken = self._budget.take(checked.need)
            ending = await self._ending(checked, guard)
            ran_us = self._clock.steady_us() - started_us
            # A run that was stopped, or broke, cannot say what it moved: all that it took stays counted.
            if not _overran(ending):
                self._budget.settle(taken, ending.metrics)
            outcome = await self._judge(checked, ending, guard.used, started_us)
            _fill(result, checked.kind, outcome.metrics)
            _add_detail(result, outcome.detail)
            result.status = probe_pb2.STATUS_OK
        except (ProbeFailure, contract.InvalidInputError) as error:
            self._take_refusal(job, result, error)
        except Exception as error:
            log.warning("job %d: the probe failed unexpectedly", job.job_id, exc_info=error)
            _take_unexpected(result, error)
        # What was looked at afterwards, to find out whose fault a failure is, is no part of the measurement.
        result.duration_ms = (self._clock.steady_us() - started_us if ran_us is None else ran_us) / 1000
        return result

    def _check(self, job: probe_pb2.Job) -> _Checked:
        kind = contract.kind_of(job.spec)
        contract.check_spec(job.spec)
        target = contract.parse_target(kind, job.target)
        self._policy.check_kind(kind.name)
        if target.address is not None:
            self._policy.check(unmapped(target.address), target.port)
        if target.network is not None:
            self._policy.check_network(target.network)
        state = self._availability(kind.name)
        if not state.available:
            mend = f"; mend it with: {state.mend}" if state.mend else ""
            raise ProbeFailure(
                f"this host cannot run `{kind.name}`: {state.reason}{mend}",
                source=probe_pb2.FAILURE_SOURCE_VANTAGE,
                reason=probe_pb2.FAILURE_REASON_NOT_AVAILABLE,
                status=probe_pb2.STATUS_ERROR,
            )
        module = self._load(kind.name)
        spec = getattr(job.spec, kind.name)
        asked_s = module.duration_s(spec) if hasattr(module, "duration_s") else asked_time_s(spec)
        need = module.need(spec) if hasattr(module, "need") else usual_need(job.spec, target.addresses)
        limit_s = asked_s + kind.timeout_s + usual_need(job.spec, target.addresses - 1).packets * _PACKET_S
        if target.host and target.address is None and target.network is None:
            # The resolver has its own time-out, and must be the one that says that it did not answer.
            limit_s += resolving.LONGEST_S
        return _Checked(kind=kind, target=target, spec=spec, module=module, limit_s=limit_s, need=need)

    async def _ending(self, checked: _Checked, guard: RunGuard) -> Outcome | ProbeFailure:
        """Run the probe and return how it ended; what is neither outcome nor failure is raised."""
        try:
            return await self._probe(checked, guard)
        except ProbeFailure as failure:
            return failure

    async def _judge(
        self, checked: _Checked, ending: Outcome | ProbeFailure, used: IPAddress | None, started_us: int
    ) -> Outcome:
        """Return the outcome of a run that used an address, or raise ProbeFailure.

        This host's own fault goes before the destination's, and before what the test makes of it.
        """
        if self._vantage is not None:
            source = BY_ROUTES
            if used is not None:
                source = Source.parse(getattr(checked.spec, "source", ""))
                answered = isinstance(ending, Outcome) or reached(checked.kind, ending) is True
                self._vantage.note(used, source, answered=answered)
            if isinstance(ending, ProbeFailure):
                fault = ""
                try:
                    async with time_limit(_LOOK_S):
                        fault = clock_fault(ending, self._time.offset_ms()) or await self._vantage.fault(
                            ending, used, source, started_us=started_us
                        )
                except asyncio.TimeoutError:
                    log.warning("looking at this host's access to the network took longer than %g s", _LOOK_S)
                if fault:
                    raise vantage_broken(ending, fault)
        if must_be_unreachable(checked.spec):
            return turn_round(checked.kind, ending)
        if isinstance(ending, ProbeFailure):
            raise ending
        return ending

    async def _probe(self, checked: _Checked, guard: RunGuard) -> Outcome:
        context = ProbeContext(
            guard=guard,
            resolve=guard.resolve,
            databases=self._databases,
            responder_keys=self._responder_keys,
            clock_offset_ms=self._time.offset_ms(),
        )
        probe = asyncio.ensure_future(checked.module.run(checked.target, checked.spec, context))
        timer = asyncio.ensure_future(self._clock.sleep(checked.limit_s))
        try:
            await asyncio.wait({probe, timer}, return_when=asyncio.FIRST_COMPLETED)
            if probe.done():
                outcome: Outcome = probe.result()
                return outcome
            raise ProbeFailure(
                f"the run was stopped after {checked.limit_s:g} s, the longest that its parameters allow for",
                source=probe_pb2.FAILURE_SOURCE_INTERNAL,
                reason=probe_pb2.FAILURE_REASON_OVERRAN,
                status=probe_pb2.STATUS_ERROR,
            )
        finally:
            timer.cancel()
            probe.cancel()
            # Not waited for without limit: a probe that does not let itself be cancelled must not hold its job.
            _, stuck = await asyncio.wait({probe, timer}, timeout=_CANCEL_WAIT_S)
            if stuck:
                log.error("the probe of kind %s does not stop when it is told to", checked.kind.name)
            elif not probe.cancelled():
                probe.exception()  # it has been raised above, or came too late to matter

    def _take_refusal(
        self, job: probe_pb2.Job, result: probe_pb2.Result, error: ProbeFailure | contract.InvalidInputError
    ) -> None:
        if isinstance(error, ProbeFailure):
            self._take_failure(job, result, error)
            return
        text = f"this job cannot be run by this worker: {error}"
        ended(
            result,
            probe_pb2.STATUS_ERROR,
            probe_pb2.FAILURE_SOURCE_INTERNAL,
            probe_pb2.FAILURE_REASON_INVALID_TEST,
            text,
        )

    def _take_failure(self, job: probe_pb2.Job, result: probe_pb2.Result, failure: ProbeFailure) -> None:
        if failure.metrics is not None:
            try:
                _fill(result, contract.kind_of(job.spec), failure.metrics)
            except TypeError as error:
                log.warning("job %d: %s", job.job_id, error)
        try:
            _add_detail(result, failure.detail)
        except (TypeError, ValueError) as error:
            log.warning("job %d: its detail cannot be told: %s", job.job_id, error)
        ended(result, failure.status, failure.source, failure.reason, failure.message)

    def _availability(self, kind: str) -> Availability:
        try:
            self._policy.check_kind(kind)
        except ProbeFailure as failure:
            return Availability(available=False, reason=failure.message, mend="")
        now_us = self._clock.steady_us()
        known = self._known.get(kind)
        if known is not None and (known[0].available or now_us - known[1] < _UNAVAILABLE_S * 1e6):
            return known[0]
        try:
            state: Availability = self._load(kind).availability()
        except Exception as error:
            log.warning("kind %s cannot be loaded", kind, exc_info=error)
            state = Availability(
                available=False,
                reason=f"its probe cannot be loaded: {type(error).__name__}: {error}",
                mend="install the worker's bundle again",
            )
        self._known[kind] = (state, now_us)
        return state


def asked_time_s(spec: Any) -> float:
    """Return the longest time that a kind's parameters can ask for: all its times together, intervals per packet.

    It is the limit of kinds whose module has no `duration_s` that knows better.
    """
    count = max(1, int(getattr(spec, "count", 1)))
    asked_ms = 0
    for field in spec.DESCRIPTOR.fields:
        if field.name.endswith("_ms"):
            asked_ms += int(getattr(spec, field.name)) * (count if field.name == "interval_ms" else 1)
    return asked_ms / 1000


def _take_unexpected(result: probe_pb2.Result, error: Exception) -> None:
    """Tell what no probe has foreseen: a want of this host's own, or a fault of the worker's software."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in NO_ROOM):
        failure = vantage_failure(
            f"this host has no room for the run: {text}", reason=probe_pb2.FAILURE_REASON_NO_ROOM
        )
    else:
        failure = internal_failure(f"the probe failed unexpectedly: {text}")
    ended(result, failure.status, failure.source, failure.reason, failure.message)


def _overran(ending: Outcome | ProbeFailure) -> bool:
    return isinstance(ending, ProbeFailure) and ending.reason == probe_pb2.FAILURE_REASON_OVERRAN


def _fill(result: probe_pb2.Result, kind: contract.Kind, metrics: Any) -> None:
    if not isinstance(metrics, kind.result_class):
        raise TypeError(f"the probe of kind {kind.name} returned {type(metrics).__name__}")
    getattr(result, kind.name).CopyFrom(metrics)
    result.ClearField("kind")


def _add_detail(result: probe_pb2.Result, detail: dict[str, Any]) -> None:
    if not detail:
        return
    text = json.dumps(detail, allow_nan=False)
    most = contract.MOST_DETAIL_CHARACTERS
    if len(text) > most:
        text = json.dumps({"left_out": f"the detail had {len(text)} characters; {most} is the most"})
    result.detail_json = text
