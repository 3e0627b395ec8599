"""The verdict on a test, from the readings of its jobs and of what else its workers measure."""

from __future__ import annotations

import datetime as dt
import functools
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from controller.diagnosis.verdicts.commands import next_command
from controller.diagnosis.verdicts.conditions import condition, evidence, health, local_domain
from controller.diagnosis.verdicts.records import Condition, Domain, Evidence, JobReading, Verdict
from controller.diagnosis.verdicts.words import sentence_of
from streamswarm import contract
from streamswarm.contract import InvalidInputError

#: Two things began together when no more than so many intervals lie between them.
_TOGETHER = 3
#: A worker's own access is blamed when so many other hosts are bad from it, and most of those that it looks at.
_OTHER_HOSTS = 2
#: A clock that is further off than this is said beside the verdict.
_CLOCK_OFF_MS = 5000.0
#: Where the domains of several jobs differ, one of them must have this share.
_CLEAR = 2 / 3


@dataclass(frozen=True, kw_only=True)
class _Case:
    """One job with what is known of it."""

    job: JobReading
    condition: Condition
    evidence: tuple[Evidence, ...]
    domain: Domain
    host: str


class _Around:
    """What the other jobs of a worker, and the other workers of a destination, have to say about a bad job."""

    def __init__(self, cases: Sequence[_Case], others: Sequence[_Case]) -> None:
        self._of_worker: dict[uuid.UUID, list[_Case]] = {}
        #: Workers that could judge each target, and those to which it is bad.
        self._judging: dict[str, tuple[set[uuid.UUID], set[uuid.UUID]]] = {}
        for case in (*cases, *others):
            self._of_worker.setdefault(case.job.worker_id, []).append(case)
        for case in cases:
            judging, bad_to = self._judging.setdefault(case.job.target, (set(), set()))
            if case.condition in ("good", "bad"):
                judging.add(case.job.worker_id)
            if case.condition == "bad":
                bad_to.add(case.job.worker_id)

    def of_worker(self, case: _Case) -> Sequence[_Case]:
        """Return all that a job's worker measures, the job included."""
        return self._of_worker[case.job.worker_id]

    def beside(self, case: _Case) -> list[_Case]:
        """Return what a job's worker measures beside it."""
        return [other for other in self.of_worker(case) if other.job.job_id != case.job.job_id]

    def judging(self, case: _Case) -> tuple[set[uuid.UUID], set[uuid.UUID]]:
        """Return the workers that could judge a job's target, and those among them to which it is bad."""
        return self._judging[case.job.target]


def struck(jobs: Sequence[JobReading], *, now: dt.datetime) -> set[uuid.UUID]:
    """Return the workers of the jobs that are bad: what else they measure belongs to the verdict, and nobody else's does."""
    return {job.worker_id for job in jobs if condition(job, now) == "bad"}


def judge(jobs: Sequence[JobReading], others: Sequence[JobReading], *, now: dt.datetime) -> Verdict:
    """Return the verdict on the test of `jobs`; `others` are the other jobs of the workers that it has `struck`."""
    cases = [_case(job, now) for job in jobs]
    bad = [case for case in cases if case.condition == "bad"]
    judged = [case for case in cases if case.condition in ("good", "bad")]
    points = [value for case in judged if (value := health(case.job)) is not None]
    score = round(sum(points) / len(points)) if points else None
    needed = max((case.job.needed for case in cases if case.condition == "learning"), default=0)
    if bad:
        around = _Around(cases, [_case(job, now) for job in others])
        refined = [replace(case, domain=_refined(case, around)) for case in bad]
        domain = _common([case.domain for case in refined])
        found = _ordered([one for case in refined for one in case.evidence], domain)
        worst = next(case for case in refined if case.job is found[0].job)
        context = _context(refined, around)
        hosts = [one for one in context if one.metric is not None]
        shown = hosts[0] if hosts and domain == "vantage_fault" else found[0]
        return Verdict(
            status="fault",
            health=score,
            domain=domain,
            sentence=sentence_of(
                domain,
                shown,
                workers=sorted({case.job.worker_name for case in refined}),
                bad=len(bad),
                judged=len(judged),
            ),
            evidence=(*context, *found) if shown in hosts else (*found, *context),
            since=min(one.since for one in found),
            command=next_command(domain, worst.job, shown),
            bad=len(bad),
            judged=len(judged),
            needed=needed,
        )
    return _without_fault(cases, judged, score, needed)


def _without_fault(
    cases: Sequence[_Case], judged: Sequence[_Case], score: int | None, needed: int
) -> Verdict:
    """Return the verdict when no job is bad: healthy, or the reason why nothing can be said."""
    unmeasured = [case for case in cases if case.condition == "unmeasured"]
    base = Verdict(
        status="healthy",
        health=score,
        domain=None,
        sentence="Everything that is watched is within its normal range.",
        evidence=(),
        since=None,
        command=None,
        bad=0,
        judged=len(judged),
        needed=needed,
    )
    if judged:
        return base
    if unmeasured:
        found = [one for case in unmeasured for one in case.evidence]
        domain = _common([case.domain for case in unmeasured])
        return replace(
            base,
            status="unmeasured",
            domain=domain,
            sentence=f"Nothing is measured, so nothing is known of the destination: {found[0].text}.",
            evidence=tuple(found),
            since=min(one.since for one in found),
            command=next_command(domain, found[0].job, found[0]),
        )
    if any(case.condition == "learning" for case in cases):
        runs = "run" if needed == 1 else "runs"
        return replace(
            base,
            status="learning",
            sentence=f"What is normal is still being learnt: {needed} more good {runs} are needed.",
        )
    if cases:
        return replace(base, status="silent", sentence="No results come in, so nothing can be said.")
    return replace(base, status="idle", sentence="No worker runs this test, so there is nothing to diagnose.")


def _case(job: JobReading, now: dt.datetime) -> _Case:
    found = evidence(job)
    return _Case(
        job=job,
        condition=condition(job, now),
        evidence=found,
        domain=local_domain(found),
        host=_host(job.kind.name, job.target),
    )


# Thousands of jobs aim at few hosts.
@functools.lru_cache(maxsize=4096)
def _host(kind: str, target: str) -> str:
    """Return the host of a target; empty where there is none."""
    try:
        return contract.parse_target(contract.kind(kind), target).host
    except InvalidInputError:
        return ""


def _refined(case: _Case, around: _Around) -> Domain:
    """Return what a bad job's fault is when the other vantage points and the worker's other jobs are heard too."""
    if case.domain in ("vantage_fault", "internal") or not case.host:
        return case.domain
    if _soft(case) and _host_evidence(case, around):
        return "vantage_fault"
    beside = around.beside(case)
    domain = _across_the_path(case, beside)
    if domain == "resolver_fault":
        return domain
    workers, bad_to = around.judging(case)
    if len(workers) > 1 and bad_to == workers:
        return "target_fault"
    if domain == "path_fault":
        return "vantage_fault" if _cut_off(case, beside) else "path_fault"
    if len(workers) > 1 and domain == "target_fault" and _soft(case):
        # Slow to this worker alone, over a path that is as fast as ever: another server behind the same name, perhaps.
        return "unknown"
    return domain


def _soft(case: _Case) -> bool:
    """Whether all evidence is about times, which a busy worker can lengthen, and none about losses or failures."""
    return all(one.metric is not None and one.metric.metric.role == "latency" for one in case.evidence)


def _host_evidence(case: _Case, around: _Around) -> list[Evidence]:
    """Return what the worker's own host shows that began before the job's fault, or together with it."""
    began = min(one.since for one in case.evidence)
    found = []
    for other in around.of_worker(case):
        if other.condition in ("silent", "learning"):
            continue
        slack = dt.timedelta(seconds=_TOGETHER * max(other.job.interval_s, case.job.interval_s))
        found += [
            replace(one, context=True)
            for one in other.evidence
            if one.metric is not None and one.metric.metric.layer == "vantage" and one.since <= began + slack
        ]
    return found


def _across_the_path(case: _Case, beside: Sequence[_Case]) -> Domain:
    """Return the domain of a job in the light of what the same worker sees of the same host."""
    same_host = [other for other in beside if other.host == case.host and other.condition == "bad"]
    # A name server that says nothing is no witness against the way: it may be the server itself.
    witnesses = [other for other in same_host if other.job.kind.headline.layer != "resolver" or _soft(other)]
    if _soft(case) and any(other.domain == "path_fault" for other in witnesses):
        return "path_fault"
    if case.domain == "path_fault" and case.job.kind.headline.layer == "resolver":
        # The destination is a name server that does not answer. The way is to blame only if something else says so.
        lost = [other for other in beside if other.condition == "bad" and other.domain == "path_fault"]
        return "path_fault" if lost else "resolver_fault"
    return case.domain


def _cut_off(case: _Case, beside: Sequence[_Case]) -> bool:
    """Whether the worker reaches hardly anything: its own access is at fault, not the way to one destination."""
    hosts: dict[str, bool] = {}
    for other in beside:
        if other.host and other.host != case.host and other.condition in ("good", "bad"):
            ill = other.condition == "bad" and other.domain in ("path_fault", "vantage_fault")
            hosts[other.host] = hosts.get(other.host, True) and ill
    count = sum(hosts.values())
    return count >= _OTHER_HOSTS and 2 * count > len(hosts)


def _context(cases: Sequence[_Case], around: _Around) -> tuple[Evidence, ...]:
    """Return what the hosts of the bad jobs show, each once, and whose clock is off."""
    own = {case.job.test_id for case in cases}
    clocks = {
        case.job.worker_id: Evidence(
            job=case.job,
            metric=None,
            text=f"The clock of {case.job.worker_name} is {abs(offset) / 1000:.1f} s off the controller's: "
            "instants of its runs are not to be trusted",
            since=case.job.runs[-1].at,
            domain="vantage_fault",
            context=True,
        )
        for case in cases
        if (offset := case.job.clock_offset_ms or 0.0) and abs(offset) > _CLOCK_OFF_MS
    }
    found: dict[tuple[int, str], Evidence] = {}
    for case in cases:
        for one in _host_evidence(case, around):
            if one.job.test_id not in own and one.metric is not None:
                found[one.job.job_id, one.metric.metric.name] = one
    return (*found.values(), *clocks.values())


def _common(domains: Sequence[Domain]) -> Domain:
    domain, count = Counter(domains).most_common(1)[0]
    return domain if count >= _CLEAR * len(domains) else "unknown"


def _ordered(found: Sequence[Evidence], domain: Domain) -> list[Evidence]:
    """Order evidence: failed runs, then what speaks of the verdict's domain, the oldest first."""
    return sorted(found, key=lambda one: (one.metric is not None, one.domain != domain, one.since))
