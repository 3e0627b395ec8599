"""Runs an upgrade: step by step, each with its health gate and comparison, and back where one does not pass."""

from __future__ import annotations

import datetime as dt
import enum
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from controller.errors import StreamSwarmError
from controller.fleet.api import Api, workers_of
from controller.fleet.events import HostRecap
from controller.fleet.operations import Recap
from controller.fleet.upgrades import report
from controller.fleet.upgrades.comparison import Judgement, Verdict, compare, enough, needed_s
from controller.fleet.upgrades.gate import passage
from controller.fleet.upgrades.plan import Plan, Step
from controller.fleet.upgrades.samples import Job, Member, jobs_of, read

_LOOK_S = 1.0
#: How long a controller that does not answer is asked again.
_AWAY_S = 60.0
#: The REST API takes ten calls a second of one token; half of that is left to others.
_CALLS_PER_S = 4.0
_LOOK_AGAIN_S = 10.0


T = TypeVar("T")


class Outcome(enum.StrEnum):
    """How an upgrade ended."""

    DONE = "done"
    #: A step did not pass; its hosts are on the release before, as far as they could be reached.
    ROLLED_BACK = "rolled back"
    #: Nothing speaks against the release, and too little for it.
    PAUSED = "paused"
    STOPPED = "stopped"


class Playbooks(Protocol):
    """Runs the playbooks on some hosts."""

    def upgrade(self, hosts: Sequence[str]) -> Recap:
        """Bring hosts to the release."""

    def roll_back(self, hosts: Sequence[str], bad_release: str) -> Recap:
        """Return those hosts that are on the bad release to the one before."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What an upgrade waits for, and what it goes on with."""

    #: Seconds for which a step is given to connect, and to gather runs to be compared.
    patience_s: float = 900.0
    #: Go on where there is too little to compare.
    accept_inconclusive: bool = False


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How an upgrade ended, and which hosts have the release now."""

    outcome: Outcome
    upgraded: tuple[str, ...]
    judgements: tuple[Judgement, ...] = ()


class Clock:
    """The time, and waiting; a test has its own."""

    def now(self) -> dt.datetime:
        """Return the time."""
        return dt.datetime.now(dt.UTC)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


class _StopError(Exception):
    """The operator wants no more."""


@dataclass(kw_only=True)
class Upgrade:
    """One upgrade under way."""

    api: Api
    playbooks: Playbooks
    terms: Terms
    #: Told what happens, a line each.
    say: Callable[[str], None]
    stopped: Callable[[], bool] = lambda: False
    clock: Clock = field(default_factory=Clock)
    _upgraded: list[str] = field(default_factory=list)
    _judgements: list[Judgement] = field(default_factory=list)

    def run(self, plan: Plan) -> Ended:
        """Go through the plan until it is done, a step does not pass, or it is stopped."""
        outcome = Outcome.DONE
        ready = set(plan.ready)
        try:
            for step in plan.steps:
                outcome = self._step(step, first=step is plan.steps[0], ready=ready)
                if outcome is not Outcome.DONE:
                    break
                ready.update(step.hosts)
        except _StopError:
            outcome = Outcome.STOPPED
        return Ended(outcome=outcome, upgraded=tuple(self._upgraded), judgements=tuple(self._judgements))

    def _step(self, step: Step, *, first: bool, ready: set[str]) -> Outcome:
        self._look_up()
        self.say(f"{step.name}: {', '.join(step.hosts)}")
        control = self._ask(lambda: self._control(step, ready))
        started = self.clock.now()
        recap = self.playbooks.upgrade(step.hosts)
        if recap.cancelled:
            raise _StopError
        moved = [host.host for host in recap.hosts if host.succeeded]
        releases = {move.host: move.after for move in step.moves}
        failed = [host for host in recap.hosts if not host.succeeded]
        if failed or len(recap.hosts) < len(step.hosts):
            why = _failures(failed) or ["the playbook did not reach all hosts"]
            return self._back(step, moved, why)
        self._upgraded += moved
        try:
            since, faults = self._pass_gate(moved, releases, started)
            if faults:
                return self._back(step, moved, faults)
            self.say(f"{step.name}: connected again with the release, and delivering")
            if not control and not first:
                self.say(f"{step.name}: no host is left without the release, so nothing is compared")
                return Outcome.DONE
            return self._judge(step, moved, started, since, control)
        except StreamSwarmError as error:
            return self._back(step, moved, [f"the controller cannot be asked about its hosts: {error}"])

    def _judge(
        self,
        step: Step,
        moved: Sequence[str],
        started: dt.datetime,
        since: dict[str, Member],
        control: Sequence[tuple[str, str]],
    ) -> Outcome:
        after = max(member.after for member in since.values())
        others = [
            Member(host=host, worker_id=worker_id, before=started, after=after) for host, worker_id in control
        ]
        judgement = self._compared(step, list(since.values()), others)
        self._judgements.append(judgement)
        for line in report.lines(judgement):
            self.say(f"{step.name}: {line}")
        if judgement.verdict is Verdict.WORSE:
            return self._back(step, moved, ["what its hosts measure is worse with the release"])
        if judgement.verdict is Verdict.INCONCLUSIVE and not self.terms.accept_inconclusive:
            self.say(
                f"{step.name}: inconclusive: too little to compare. {', '.join(moved)} stay on the release; let them measure "
                "longer (--patience), or go on with --accept-inconclusive"
            )
            return Outcome.PAUSED
        return Outcome.DONE

    def _control(self, step: Step, ready: set[str]) -> list[tuple[str, str]]:
        """Return the hosts, with their workers' ids, that measure and will be without the release during this step."""
        releases = {move.after for move in step.moves}
        apart = {*ready, *step.hosts}
        return [
            (worker["host_name"], worker["id"])
            for worker in self.api.items("/workers", connected="true")
            if worker["host_name"] not in apart and worker["version"] not in releases and worker["jobs"]
        ]

    def _pass_gate(
        self, hosts: Sequence[str], releases: dict[str, str], started: dt.datetime
    ) -> tuple[dict[str, Member], list[str]]:
        """Wait until every host is through; returns what is compared of each, and why some do not come through."""
        through: dict[str, Member] = {}
        told = ""
        while True:
            waiting: list[str] = []
            for host in hosts:
                if host in through:
                    continue
                workers, jobs = self._ask(functools.partial(self._worker_of, host))
                now = self.clock.now()
                found = passage(
                    workers,
                    jobs,
                    release=releases[host],
                    after=started,
                    patience_s=min(60.0, self.terms.patience_s),
                    now=now,
                )
                if found.failed:
                    return through, [f"{host}: {found.failed}"]
                if found.waiting or found.since is None:
                    waiting.append(f"{host}: {found.waiting}")
                else:
                    through[host] = Member(
                        host=host, worker_id=workers[0]["id"], before=started, after=found.since
                    )
            if not waiting:
                return through, []
            if (line := f"waiting for {'; '.join(waiting)}") != told:
                self.say(told := line)
            self._wait(max(_LOOK_S, 2 * len(waiting) / _CALLS_PER_S))

    def _worker_of(self, host: str) -> tuple[list[dict[str, Any]], tuple[Job, ...]]:
        """Return the worker of a host that is not revoked, as a list, and what it is planned to measure."""
        workers = [worker for worker in workers_of(self.api, host) if worker["state"] != "revoked"]
        return workers, jobs_of(self.api, workers[0]["id"]) if workers else ()

    def _compared(self, step: Step, ours: Sequence[Member], others: Sequence[Member]) -> Judgement:
        """Wait until there are runs enough on both sides, as far as patience goes, and compare them once."""
        patience_s = self.terms.patience_s
        end = self.clock.now() + dt.timedelta(seconds=patience_s)
        if needed := self._needed_s(ours):
            self.say(f"{step.name}: measuring for {needed:.0f} s")
        self._wait(needed)
        while True:
            upgraded, control = self._ask(lambda: read(self.api, ours, others))
            if enough(upgraded, within_s=patience_s) or self.clock.now() >= end:
                return compare(upgraded, control)
            self._wait(_LOOK_AGAIN_S)

    def _needed_s(self, ours: Sequence[Member]) -> float:
        """Return the seconds in which the jobs that can have runs enough within patience will have them."""
        jobs = self._ask(lambda: [job for member in ours for job in jobs_of(self.api, member.worker_id)])
        needed = [needed_s(job.interval_s) for job in jobs]
        return max((each for each in needed if each <= self.terms.patience_s), default=0.0)

    def _back(self, step: Step, hosts: Sequence[str], why: Sequence[str]) -> Outcome:
        for line in why:
            self.say(f"{step.name}: {line}")
        if hosts:
            self.say(f"{step.name}: returning {', '.join(hosts)} to the release before")
            releases = {move.after for move in step.moves if move.host in hosts}
            for release in sorted(releases):
                recap = self.playbooks.roll_back(hosts, release)
                for line in _failures([host for host in recap.hosts if not host.succeeded]):
                    self.say(f"{step.name}: not returned: {line}")
        self._upgraded = [host for host in self._upgraded if host not in hosts]
        return Outcome.ROLLED_BACK

    def _ask(self, question: Callable[[], T]) -> T:
        """Ask the controller; where it does not answer, again for a while."""
        end = self.clock.now() + dt.timedelta(seconds=_AWAY_S)
        while True:
            try:
                return question()
            except StreamSwarmError:
                if self.clock.now() >= end:
                    raise
            self._wait(_LOOK_S)

    def _wait(self, seconds: float) -> None:
        end = self.clock.now() + dt.timedelta(seconds=seconds)
        while (left := (end - self.clock.now()).total_seconds()) > 0:
            self._look_up()
            self.clock.sleep(min(left, _LOOK_S))
        self._look_up()

    def _look_up(self) -> None:
        if self.stopped():
            raise _StopError


def _failures(hosts: Sequence[HostRecap]) -> list[str]:
    return [
        f"{host.host}: {host.message or ('unreachable' if host.unreachable else 'failed')}" for host in hosts
    ]
