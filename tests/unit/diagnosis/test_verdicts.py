"""From readings to a verdict: each fault a lab can make, seen by one worker, by some and by all."""

from __future__ import annotations

import datetime as dt
import shlex
import uuid
from dataclasses import replace
from typing import get_args

import pytest
from support.readings import NOW, busy_host, job, runs

from controller.diagnosis.verdicts.conditions import amount, condition
from controller.diagnosis.verdicts.records import Domain, JobReading, RunOutcome
from controller.diagnosis.verdicts.verdict import judge
from streamswarm import contract
from streamswarm.v1 import probe_pb2


def domain_of(jobs: list[JobReading], others: list[JobReading] | None = None) -> Domain | None:
    return judge(jobs, others or [], now=NOW).domain


@pytest.mark.parametrize(
    ("fault", "jobs", "others", "domain", "command"),
    [
        (
            "50 ms more delay",
            [job("ping", bad={"rtt_avg_ms": 62})],
            [],
            "path_fault",
            "mtr -n -r -c 20 192.0.2.1",
        ),
        ("10 % loss", [job("ping", bad={"loss_pct": 15})], [], "path_fault", "mtr -n -r -c 20 192.0.2.1"),
        (
            "delay under TCP",
            [job("tcp", bad={"connect_ms": 62})],
            [],
            "path_fault",
            "mtr -n -r -c 20 --tcp --port 8080 192.0.2.1",
        ),
        (
            "delay under HTTP, which slows every phase",
            [job("http", bad={"dns_ms": 60, "connect_ms": 62, "ttfb_ms": 65, "total_ms": 200})],
            [],
            "path_fault",
            "mtr -n -r -c 20 --tcp --port 443 www.example.org",
        ),
        (
            "dead resolver, under HTTP",
            [job("http", runs=runs("error", "resolver", last=4))],
            [],
            "resolver_fault",
            "dig +tries=1 +time=3 www.example.org",
        ),
        (
            "dead resolver, asked itself",
            [job("dns", runs=runs("failed", "network", last=3))],
            [job("ping", 2, test_id=2)],
            "resolver_fault",
            "dig +tries=1 +time=3 @192.0.2.53 -p 53 . SOA",
        ),
        (
            "slow resolver",
            [job("http", bad={"dns_ms": 900, "total_ms": 960})],
            [],
            "resolver_fault",
            "dig +tries=1 +time=3 www.example.org",
        ),
        (
            "refused port",
            [job("tcp", runs=runs("failed", "target", last=3), error="Connection refused (ECONNREFUSED)")],
            [],
            "target_fault",
            "ss -ltunp 'sport = :8080'",
        ),
        (
            "no answer",
            [job("tcp", runs=runs("failed", "network", last=3))],
            [],
            "path_fault",
            "mtr -n -r -c 20 --tcp --port 8080 192.0.2.1",
        ),
        (
            "slow server",
            [job("http", bad={"ttfb_ms": 2000, "total_ms": 2060})],
            [],
            "target_fault",
            "curl -sv -o /dev/null -w 'name %{time_namelookup} connect %{time_connect} first byte "
            "%{time_starttransfer} s' 'https://www.example.org/a?b=c'",
        ),
        (
            "busy vantage CPU, looked at itself",
            [job("system", bad={"cpu_busy_pct": 99})],
            [],
            "vantage_fault",
            "top -b -n 1 -o %CPU | head -n 20",
        ),
        (
            "busy vantage CPU, under HTTP",
            [job("http", bad={"connect_ms": 40, "ttfb_ms": 80, "total_ms": 150})],
            [busy_host()],
            "vantage_fault",
            "top -b -n 1 -o %CPU | head -n 20",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)
def test_a_fault_is_named_with_its_evidence_and_the_next_command(
    fault: str, jobs: list[JobReading], others: list[JobReading], domain: Domain, command: str
) -> None:
    """One worker alone sees it: the domain, a command that can be pasted, a health below 100."""
    verdict = judge(jobs, others, now=NOW)
    assert (verdict.status, verdict.domain) == ("fault", domain), fault
    assert verdict.command is not None
    assert verdict.command.line == command
    assert verdict.evidence
    assert verdict.evidence[0].text in verdict.sentence
    assert verdict.health is None or verdict.health < 75
    assert verdict.since is not None
    assert verdict.since < NOW


def test_every_domain_but_unknown_is_named_somewhere() -> None:
    """The contract's fault domains are those of the records."""
    values = probe_pb2.FaultDomain.DESCRIPTOR.values
    assert {value.name.removeprefix("FAULT_DOMAIN_").lower() for value in values} == set(get_args(Domain))


def test_n_of_m_vantage_points() -> None:
    """Slow for all is the destination; slow for one is its path; slow to one alone to answer is not known."""
    slow = {"rtt_avg_ms": 62.0}
    everybody = [job("ping", number, worker=number, bad=slow) for number in (1, 2, 3)]
    assert domain_of(everybody) == "target_fault"
    one = [everybody[0], *(job("ping", number, worker=number) for number in (2, 3))]
    verdict = judge(one, [], now=NOW)
    assert (verdict.domain, verdict.bad, verdict.judged) == ("path_fault", 1, 3)
    assert "edge-1" in verdict.sentence
    assert "1 of 3" in verdict.sentence
    processing = [
        job("http", 1, worker=1, bad={"ttfb_ms": 900.0}),
        *(job("http", number, worker=number) for number in (2, 3)),
    ]
    assert domain_of(processing) == "unknown"
    silent = [job("ping", number, worker=number, runs=runs("failed", "network", last=4)) for number in (1, 2)]
    assert domain_of(silent) == "target_fault"


def test_vantage_points_that_know_nothing_have_no_voice() -> None:
    """Silent, learning and unmeasured jobs are not counted among the vantage points."""
    bad = job("ping", 1, bad={"rtt_avg_ms": 62.0})
    long_ago = tuple(replace(run, at=run.at - dt.timedelta(hours=1)) for run in runs())
    mute = [
        job("ping", 2, worker=2, runs=long_ago),
        job("ping", 3, worker=3, needed=7),
        job("ping", 4, worker=4, runs=runs("missed", "schedule")),
        job("ping", 5, worker=5, runs=()),
    ]
    verdict = judge([bad, *mute], [], now=NOW)
    assert (verdict.domain, verdict.bad, verdict.judged) == ("path_fault", 1, 1)


def test_a_worker_that_reaches_nothing_is_at_fault_itself() -> None:
    """Two more hosts bad from the same worker at the same time: its access, unless most others are fine."""
    slow = {"rtt_avg_ms": 62.0}
    here = job("ping", 1, bad=slow)
    bad = [job("ping", n, test_id=n, target=f"198.51.100.{n}", bad=slow) for n in (2, 3)]
    good = [job("ping", n, test_id=n, target=f"198.51.100.{n}") for n in (4, 5)]
    assert domain_of([here], bad) == "vantage_fault"
    assert domain_of([here], bad[:1]) == "path_fault"
    assert domain_of([here], [*bad, *good]) == "path_fault"
    elsewhere = [replace(one, worker_id=uuid.UUID(int=9)) for one in bad]
    assert domain_of([here], elsewhere) == "path_fault"


def test_a_busy_worker_explains_times_but_neither_losses_nor_refusals_nor_what_came_before() -> None:
    """Its own evidence must be about times and must not be older than the host's."""
    assert domain_of([job("tcp", bad={"connect_ms": 40})], [busy_host()]) == "vantage_fault"
    assert domain_of([job("tcp", bad={"connect_ms": 40})], [busy_host(2)]) == "path_fault"
    assert domain_of([job("ping", bad={"loss_pct": 15})], [busy_host()]) == "path_fault"
    assert domain_of([job("tcp", runs=runs("failed", "target", last=4))], [busy_host()]) == "target_fault"
    later = busy_host()
    later = replace(
        later,
        metrics=tuple(
            replace(one, since=NOW - dt.timedelta(seconds=1)) if one.since else one for one in later.metrics
        ),
    )
    assert domain_of([job("tcp", bad={"connect_ms": 40})], [later]) == "path_fault"


def test_a_slow_way_to_a_name_server_is_the_way() -> None:
    """The same worker's ping to the same host is slow too: the path, not the server."""
    slow = job("dns", bad={"query_ms": 80.0})
    assert domain_of([slow]) == "resolver_fault"
    ping = job("ping", 2, test_id=2, target="192.0.2.53", bad={"rtt_avg_ms": 62.0})
    assert domain_of([slow], [ping]) == "path_fault"
    dead = job("dns", runs=runs("failed", "network", last=4))
    gone = job("ping", 2, test_id=2, runs=runs("failed", "network", last=4))
    assert domain_of([dead], [gone]) == "path_fault"


@pytest.mark.parametrize(
    ("status", "source", "domain"),
    [
        ("missed", "schedule", "vantage_fault"),
        ("error", "vantage", "vantage_fault"),
        ("error", "policy", "internal"),
        ("error", "internal", "internal"),
    ],
)
def test_what_was_not_measured_is_neither_down_nor_zero(status: str, source: str, domain: Domain) -> None:
    """No health is claimed, nothing is said of the destination, and the reason is named."""
    verdict = judge([job("ping", runs=runs(status, source, last=4))], [], now=NOW)
    assert (verdict.status, verdict.health, verdict.domain) == ("unmeasured", None, domain)
    assert verdict.command is not None
    assert "nothing is known of the destination" in verdict.sentence


def test_a_name_that_does_not_resolve_claims_no_health() -> None:
    """Nothing was learnt about the destination, so it is not 0."""
    verdict = judge([job("http", runs=runs("error", "resolver"))], [], now=NOW)
    assert (verdict.health, verdict.domain) == (None, "resolver_fault")


def test_single_failures_and_suspicions_are_no_fault() -> None:
    """Two failed runs of five, five failed runs long ago, and what the forest has not confirmed."""
    assert judge([job("ping", runs=runs("failed", "network", last=2))], [], now=NOW).status == "healthy"
    over = tuple(
        replace(run, status="failed", source="network") if index < 12 else run
        for index, run in enumerate(runs())
    )
    assert judge([job("ping", runs=over)], [], now=NOW).status == "healthy"
    suspected = job("ping")
    suspected = replace(
        suspected, metrics=tuple(replace(one, state="suspected", since=NOW) for one in suspected.metrics)
    )
    verdict = judge([suspected], [], now=NOW)
    assert (verdict.status, verdict.health, verdict.domain) == ("healthy", 100, None)


def test_what_has_left_its_range_beside_a_called_metric_is_heard_too() -> None:
    """The resolver is called first, the connection only suspected: both are slow, so it is the way to them."""
    slow = job("http", bad={"dns_ms": 60.0})
    assert domain_of([slow]) == "resolver_fault"
    beside = [
        replace(one, now=60.0, state="suspected", beyond=3) if one.metric.name == "connect_ms" else one
        for one in slow.metrics
    ]
    both = replace(slow, metrics=tuple(beside))
    assert domain_of([both]) == "path_fault"
    assert len(judge([both], [], now=NOW).evidence) == 2
    alone = replace(job("http"), metrics=tuple(replace(one, beyond=3) for one in job("http").metrics))
    assert judge([alone], [], now=NOW).status == "healthy"


def test_a_clock_that_is_off_is_said_beside_the_verdict() -> None:
    """It explains no fault, but what the worker's instants say is to be doubted."""
    bad = job("ping", bad={"rtt_avg_ms": 62.0}, clock_offset_ms=-7200.0)
    verdict = judge([bad], [], now=NOW)
    assert verdict.domain == "path_fault"
    [clock] = [one for one in verdict.evidence if one.context]
    assert "7.2 s off" in clock.text
    assert not any(one.context for one in judge([replace(bad, clock_offset_ms=40.0)], [], now=NOW).evidence)


def test_it_abstains_and_says_how_long() -> None:
    """While learning it gives no health; idle and silent are told apart."""
    verdict = judge([job("ping", needed=12), job("ping", 2, worker=2, needed=1)], [], now=NOW)
    assert (verdict.status, verdict.health, verdict.needed) == ("learning", None, 12)
    assert "12 more good runs" in verdict.sentence
    assert judge([], [], now=NOW).status == "idle"
    assert judge([job("ping", runs=())], [], now=NOW).status == "silent"
    assert condition(job("ping", interval_s=3600.0, runs=runs()), NOW + dt.timedelta(hours=2)) == "good"


def test_jobs_that_fail_differently_are_unknown() -> None:
    """Two destinations, two domains, no clear majority: the evidence is shown and nothing is blamed."""
    jobs = [
        job("tcp", 1, runs=runs("failed", "target", last=4)),
        job("tcp", 2, target="192.0.2.2:8080", runs=runs("failed", "network", last=4)),
    ]
    verdict = judge(jobs, [], now=NOW)
    assert verdict.domain == "unknown"
    assert len(verdict.evidence) == 2


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("http", "https://example.org/;id"),
        ("http", "https://example.org/$(id)?a=`id`&b='c'"),
        ("http", "https://example.org/|id"),
        ("tcp", "host-name.example:1"),
    ],
)
@pytest.mark.parametrize("domain", ["ttfb", "failed"])
def test_targets_in_commands_are_data(kind: str, target: str, domain: str) -> None:
    """A shell sees each target as one word and nothing else of it."""
    bad = {contract.kind(kind).headline.name: 90.0, **({"ttfb_ms": 90.0} if kind == "http" else {})}
    one = (
        job(kind, target=target, bad=bad)
        if domain == "ttfb"
        else job(kind, target=target, runs=runs("failed", "network", last=4))
    )
    verdict = judge([one], [], now=NOW)
    assert verdict.command is not None
    words = shlex.split(verdict.command.line)
    lexer = shlex.shlex(verdict.command.line, punctuation_chars=True, posix=True)
    lexer.whitespace_split = True
    assert list(lexer) == words, "an operator of the shell stands outside quotes"
    parsed = contract.parse_target(contract.kind(kind), target)
    assert (parsed.url or parsed.host) in words or parsed.host in words


def test_amounts_have_three_digits_and_a_unit() -> None:
    """Small and large values alike; nothing was measured is said in words."""
    rtt, loss = contract.kind("ping").metric("rtt_avg_ms"), contract.kind("ping").metric("loss_pct")
    said = [amount(value, rtt) for value in (0.0421, 1.0, 12.3456, 1234.5, None)]
    assert said == ["0.042\N{NO-BREAK SPACE}ms", "1\N{NO-BREAK SPACE}ms", "12.3\N{NO-BREAK SPACE}ms",
                    "1234\N{NO-BREAK SPACE}ms", "not measured"]  # fmt: skip
    assert amount(0.0, loss) == "0\N{NO-BREAK SPACE}%"


@pytest.mark.parametrize("missed", [1, 2, 3])
def test_runs_that_last_longer_than_their_interval_are_not_the_workers_fault(missed: int) -> None:
    """A silent destination holds each run until its time-out, so those due meanwhile are missed: that is its own doing."""
    pattern = [("failed", "network"), *[("missed", "schedule")] * missed]
    taken = (pattern * 40)[:40]
    mixed = tuple(
        RunOutcome(at=NOW - dt.timedelta(seconds=39 - index), status=status, source=source)
        for index, (status, source) in enumerate(taken)
    )
    for end in range(missed + 1):
        verdict = judge([job("ping", runs=mixed[: len(mixed) - end])], [], now=NOW)
        assert (verdict.status, verdict.domain) == ("fault", "path_fault")
        assert "5 of the last 5 runs failed: no answer" in verdict.evidence[0].text


def test_a_silent_name_server_on_the_same_host_does_not_make_a_slow_server_the_paths_fault() -> None:
    """What it does not answer says nothing of the way, on which other things come as fast as ever."""
    slow = job("http", bad={"ttfb_ms": 1001.0}, target="http://192.0.2.53/")
    silent = job("dns", 2, test_id=2, runs=runs("failed", "network", last=5))
    assert domain_of([slow], [silent]) == "target_fault"
    lost = job("ping", 3, test_id=3, runs=runs("failed", "network", last=5), target="192.0.2.53")
    assert domain_of([slow], [lost]) == "path_fault"
