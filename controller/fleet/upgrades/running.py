"""Runs an upgrade: step by step, each with its health gate and comparison, and back where one does not pass."""

from __future__ import annotations

import datetime as dt
import enum
import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from controller.errors import StreamSwarmError
from controller.fleet.api import Api, workers_of
from controller.fleet.events import HostRecap
from controller.fleet.operations import Recap
from controller.fleet.upgrades import report
from controller.fleet.upgrades.comparison import Judgement, Verdict, compare, enough, needed_s
from controller.fleet.upgrades.gate import Process, endurance, passage, process_of
from controller.fleet.upgrades.plan import Left, Plan, Step
from controller.fleet.upgrades.samples import Job, Member, jobs_of, read, sharing
from controller.fleet.upgrades.telling import Judged

_LOOK_S = 1.0
#: How long a controller that does not answer is asked again.
_AWAY_S = 60.0
#: The REST API takes ten calls a second of one token; half of that is left to others.
_CALLS_PER_S = 4.0
_LOOK_AGAIN_S = 10.0
#: After how long a host that does not confirm that it went back is asked again: together longer than a host's own script
#: goes on for by itself once its connection is broken, which holds a lock meanwhile.
_RETURN_AGAIN_S = (5.0, 15.0, 30.0, 60.0)
#: What a host's own script says of a host that is on the release before, for certain.
_STAYED = ("was taken back", "nothing was changed")
_UNDER_WAY = "another upgrade of this host is under way"


T = TypeVar("T")


class Outcome(enum.StrEnum):
    """How an upgrade ended."""

    DONE = "done"
    #: A step did not pass; its hosts are on the release before, but for those that do not confirm it.
    ROLLED_BACK = "rolled back"
    #: Nothing speaks against the release, and too little for it.
    PAUSED = "paused"
    STOPPED = "stopped"


class Playbooks(Protocol):
    """Runs the playbooks on some hosts."""

    def upgrade(self, hosts: Sequence[str]) -> Recap:
        """Bring hosts to the release."""

    def roll_back(self, hosts: Sequence[str], bad_release: str, why: Sequence[str]) -> Recap:
        """Return those hosts that are on the bad release to the one before; `why` is for the history."""

    def note(self, judged: Judged) -> None:
        """Write down what was judged, so that it is not judged again."""


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
    #: Hosts that may have the release though no step judged it there.
    unjudged: tuple[str, ...] = ()
    judgements: tuple[Judgement, ...] = ()
    #: Why it did not go through to its end, and what to do; empty when it did.
    why: str = ""
    mend: str = ""


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
    _unjudged: tuple[str, ...] = ()
    _judgements: list[Judgement] = field(default_factory=list)
    #: Which process each worker was when it passed the gate.
    _processes: dict[str, Process | None] = field(default_factory=dict)
    _why: str = ""
    _mend: str = ""

    def run(self, plan: Plan) -> Ended:
        """Go through the plan until it is done, a step does not pass, or it is stopped."""
        outcome = Outcome.DONE
        ready = set(plan.ready)
        try:
            stages = [
                *(functools.partial(self._take_up, each) for each in plan.left),
                *(functools.partial(self._step, each) for each in plan.steps),
            ]
            for stage in stages:
                outcome = stage(ready)
                if outcome is not Outcome.DONE:
                    break
                ready.update(self._unjudged)
                self._unjudged = ()
        except _StopError:
            outcome = Outcome.STOPPED
            if self._unjudged:
                self._why = (
                    f"stopped: {', '.join(self._unjudged)} may have the release, which nobody judged there"
                )
                self._mend = f"upgrade again, which judges them first; or {_return_by_hand(self._unjudged)}"
        return Ended(
            outcome=outcome,
            upgraded=tuple(self._upgraded),
            unjudged=self._unjudged,
            judgements=tuple(self._judgements),
            why=self._why,
            mend=self._mend,
        )

    def _step(self, step: Step, ready: set[str]) -> Outcome:
        self._look_up()
        self.say(f"{step.name}: {', '.join(step.hosts)}")
        control = self._ask(lambda: self._control(step, ready))
        started = self.clock.now()
        self._unjudged = step.hosts
        recap = self.playbooks.upgrade(step.hosts)
        if recap.cancelled:
            raise _StopError
        moved = [host.host for host in recap.hosts if host.succeeded]
        failed = [host for host in recap.hosts if not host.succeeded]
        if failed or len(recap.hosts) < len(step.hosts):
            why = _failures(failed) or ["the playbook did not reach all hosts"]
            stayed = {host.host for host in failed if _stayed(host)}
            return self._back(step, [host for host in step.hosts if host not in stayed], why)
        return self._examine(step, moved, started, control)

    def _take_up(self, left: Left, ready: set[str]) -> Outcome:
        """Judge hosts that an earlier upgrade left with the release."""
        self._look_up()
        step = left.step
        self.say(
            f"{step.name}: {', '.join(step.hosts)}: has the release, which nobody judged there; judged now"
        )
        self._unjudged = step.hosts
        control = self._ask(lambda: self._control(step, ready))
        ago_s = (self.clock.now() - left.started).total_seconds()
        return self._examine(step, step.hosts, left.started, control, grace_s=ago_s)

    def _examine(
        self,
        step: Step,
        hosts: Sequence[str],
        started: dt.datetime,
        control: Sequence[Mapping[str, Any]],
        *,
        grace_s: float = 0.0,
    ) -> Outcome:
        """Let hosts that have the release since `started` pass the gate, and judge what they measure."""
        self._upgraded += hosts
        try:
            releases = {move.host: move.after for move in step.moves}
            since, faults = self._pass_gate(hosts, releases, started, grace_s)
            if faults:
                return self._back(step, hosts, faults)
            self.say(f"{step.name}: connected again with the release, and delivering")
            return self._judge(step, hosts, started, since, control)
        except StreamSwarmError as error:
            return self._back(step, hosts, [f"the controller cannot be asked about its hosts: {error}"])

    def _judge(
        self,
        step: Step,
        moved: Sequence[str],
        started: dt.datetime,
        since: dict[str, Member],
        control: Sequence[Mapping[str, Any]],
    ) -> Outcome:
        after = max(member.after for member in since.values())
        others = [
            Member(
                host=worker["host_name"],
                worker_id=worker["id"],
                before=started,
                after=after,
            )
            for worker in control
        ]
        ours = list(since.values())
        judgement = self._compared(step, ours, self._ask(lambda: sharing(self.api, ours, others)))
        self._judgements.append(judgement)
        lines = list(report.lines(judgement))
        for line in lines:
            self.say(f"{step.name}: {line}")
        release = " and ".join(sorted({move.after for move in step.moves}))
        judged = Judged(
            hosts=tuple(moved), release=release, lines=tuple(lines), figures=report.figures(judgement)
        )
        if judgement.verdict is Verdict.WORSE:
            why = "what its hosts measure is worse with the release"
            self.playbooks.note(
                replace(judged, error=why, mend="its hosts are returned to the release before")
            )
            return self._back(step, moved, [why], numbers=lines)
        if gone := self._gone(moved):
            self.playbooks.note(
                replace(judged, error="; ".join(gone), mend="its hosts are returned to the release before")
            )
            return self._back(step, moved, gone, numbers=lines)
        if judgement.verdict is Verdict.INCONCLUSIVE and not self.terms.accept_inconclusive:
            self._why = (
                f"{step.name}: inconclusive: too little to compare. {', '.join(moved)} stay on the release"
            )
            self._mend = (
                "upgrade again when they have measured longer, which judges them first (--patience waits longer), or go on "
                "with --accept-inconclusive"
            )
            self.say(f"{self._why}; {self._mend}")
            self.playbooks.note(replace(judged, error=self._why, mend=self._mend))
            return Outcome.PAUSED
        self.playbooks.note(judged)
        return Outcome.DONE

    def _control(self, step: Step, ready: set[str]) -> list[dict[str, Any]]:
        """Return the workers that measure and do not change during this step: of hosts without the release.

        Where none is left, of those that have it already: they know what the network does as well.
        """
        releases = {move.after for move in step.moves}
        apart = {*ready, *step.hosts}
        measuring = [
            worker
            for worker in self.api.items("/workers", connected="true")
            if worker["jobs"] and worker["host_name"] not in step.hosts
        ]
        without = [
            worker
            for worker in measuring
            if worker["host_name"] not in apart and worker["version"] not in releases
        ]
        return without or [worker for worker in measuring if worker["host_name"] in ready]

    def _pass_gate(
        self, hosts: Sequence[str], releases: dict[str, str], started: dt.datetime, grace_s: float
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
                    patience_s=min(60.0, self.terms.patience_s) + grace_s,
                    now=now,
                )
                if found.failed:
                    return through, [f"{host}: {found.failed}"]
                if found.waiting or found.since is None:
                    waiting.append(f"{host}: {found.waiting}")
                else:
                    self._processes[host] = process_of(workers[0])
                    through[host] = Member(
                        host=host,
                        worker_id=workers[0]["id"],
                        release=releases[host],
                        before=started,
                        after=found.since,
                    )
            if not waiting:
                return through, []
            if (line := f"waiting for {'; '.join(waiting)}") != told:
                self.say(told := line)
            self._wait(max(_LOOK_S, 2 * len(waiting) / _CALLS_PER_S))

    def _gone(self, hosts: Sequence[str]) -> list[str]:
        """Return whose workers ended since they passed the gate, or are away and do not come back in time."""
        end = self.clock.now() + dt.timedelta(seconds=min(60.0, self.terms.patience_s))
        waiting = list(hosts)
        while True:
            away: dict[str, str] = {}
            for host in waiting:
                workers = self._ask(functools.partial(workers_of, self.api, host))
                found = endurance(workers, process=self._processes.get(host), now=self.clock.now())
                if found.failed:
                    return [f"{host}: {found.failed}"]
                if found.waiting:
                    away[host] = found.waiting
            if not away:
                return []
            if self.clock.now() >= end:
                return [f"{host}: {said}" for host, said in away.items()]
            waiting = list(away)
            self._wait(max(_LOOK_S, len(waiting) / _CALLS_PER_S))

    def _worker_of(self, host: str) -> tuple[list[dict[str, Any]], tuple[Job, ...]]:
        """Return the worker of a host that is not revoked, as a list, and what it is planned to measure."""
        workers = [worker for worker in workers_of(self.api, host) if worker["state"] != "revoked"]
        return workers, jobs_of(self.api, workers[0]["id"]) if workers else ()

    def _compared(self, step: Step, ours: Sequence[Member], others: Sequence[Member]) -> Judgement:
        """Wait until there are runs enough on both sides, as far as patience goes, and compare them once."""
        patience_s = self.terms.patience_s
        end = self.clock.now() + dt.timedelta(seconds=patience_s)
        if (needed := self._needed_s(ours)) > 0:
            self.say(f"{step.name}: measuring for {needed:.0f} s")
        self._wait(needed)
        while True:
            upgraded, control = self._ask(lambda: read(self.api, ours, others, now=self.clock.now()))
            if enough(upgraded, within_s=patience_s) or self.clock.now() >= end:
                return compare(upgraded, control)
            self._wait(_LOOK_AGAIN_S)

    def _needed_s(self, ours: Sequence[Member]) -> float:
        """Return the seconds from now in which the jobs that can have runs enough within patience will have them."""
        jobs = self._ask(lambda: [(each, job) for each in ours for job in jobs_of(self.api, each.worker_id)])
        needed = [(member, needed_s(job.interval_s)) for member, job in jobs]
        now = self.clock.now()
        return max(
            (
                seconds - (now - member.after).total_seconds()
                for member, seconds in needed
                if seconds <= self.terms.patience_s
            ),
            default=0.0,
        )

    def _back(
        self, step: Step, hosts: Sequence[str], why: Sequence[str], *, numbers: Sequence[str] = ()
    ) -> Outcome:
        for line in why:
            self.say(f"{step.name}: {line}")
        self._why = f"{step.name}: {'; '.join(why)}"
        self._mend = "its hosts have the release before again"
        left = self._return(step, hosts, [*why, *numbers])
        self._upgraded = [host for host in self._upgraded if host not in hosts]
        self._unjudged = tuple(left)
        if left:
            said = f"not confirmed to be on the release before: {'; '.join(_failures(left.values()))}"
            self.say(f"{step.name}: {said}")
            self._why = f"{self._why}; {said}"
            self._mend = _return_by_hand(self._unjudged)
        return Outcome.ROLLED_BACK

    def _return(self, step: Step, hosts: Sequence[str], why: Sequence[str]) -> dict[str, HostRecap]:
        """Return hosts to the release before, whether they have moved or not; returns those that do not confirm it."""
        left: dict[str, HostRecap] = {}
        if hosts:
            self.say(f"{step.name}: returning {', '.join(hosts)} to the release before")
        releases = {move.host: move.after for move in step.moves}
        for release in sorted({releases[host] for host in hosts}):
            asked = [host for host in hosts if releases[host] == release]
            for pause_s in (0.0, *_RETURN_AGAIN_S):
                # Not to be stopped: what is left half-way here nobody returns.
                self.clock.sleep(pause_s)
                failed = self._roll_back(asked, release, why)
                left = {host: recap for host, recap in left.items() if host not in asked} | failed
                asked = [
                    host for host, recap in failed.items() if recap.unreachable or _UNDER_WAY in recap.message
                ]
                if not asked:
                    break
        return left

    def _roll_back(self, hosts: Sequence[str], release: str, why: Sequence[str]) -> dict[str, HostRecap]:
        """Run the playbook once; returns those of the hosts that did not come to its end."""
        try:
            recap, said = self.playbooks.roll_back(hosts, release, why), "the playbook did not get to it"
        except StreamSwarmError as error:
            recap, said = Recap(hosts=()), str(error)
        done = {host.host: host for host in recap.hosts}
        missing = HostRecap(host="", ok=0, changed=0, failed=0, unreachable=True, message=said)
        found = {host: done.get(host) or replace(missing, host=host) for host in hosts}
        return {host: recap for host, recap in found.items() if not recap.succeeded}

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


def _stayed(host: HostRecap) -> bool:
    """Whether a host on which the upgrade failed says itself that it is on the release before."""
    return not host.unreachable and any(words in host.message for words in _STAYED)


def _return_by_hand(hosts: Sequence[str]) -> str:
    return (
        "return them to the release before once SSH reaches them (ansible-playbook -i INVENTORY playbooks/rollback.yml "
        f"--limit {','.join(hosts)}), then upgrade again"
    )


def _failures(hosts: Iterable[HostRecap]) -> list[str]:
    return [
        f"{host.host}: {host.message or ('unreachable' if host.unreachable else 'failed')}" for host in hosts
    ]
