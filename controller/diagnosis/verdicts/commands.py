"""The next command: one that a person can paste, chosen by the verdict and built from the evidence.

Which command suits is decided by what a kind aims at and by the layer that its headline speaks of. Whatever comes
from a test is quoted for the shell.
"""

from __future__ import annotations

import shlex
from typing import Any

from controller.diagnosis.verdicts.records import Command, Domain, Evidence, JobReading
from streamswarm import contract
from streamswarm.contract import InvalidInputError
from streamswarm.targets import Target


def next_command(domain: Domain, job: JobReading, strongest: Evidence) -> Command | None:
    """Return the next command, or None when the evidence suggests none."""
    here = f"on the worker {job.worker_name}"
    if domain == "vantage_fault":
        if strongest.metric is None or strongest.metric.metric.layer == "path":
            return Command(line="ip -s link", where=here, why="shows errors and drops of its interfaces")
        return Command(
            line="top -b -n 1 -o %CPU | head -n 20",
            where=here,
            why="shows load, stolen time, memory and what uses the CPU",
        )
    if domain == "internal":
        return Command(
            line="journalctl -u streamswarm-worker -n 50 --no-pager",
            where=here,
            why="shows what the worker says about it",
        )
    target = _target(job)
    if target is None or not target.host:
        return None
    if domain == "resolver_fault":
        return _ask_resolver(job, target, here)
    if domain == "target_fault":
        return _ask_target(job, target, strongest, here)
    return _trace(target, _port(job, target), here)


def _ask_resolver(job: JobReading, target: Target, here: str) -> Command:
    if job.kind.headline.layer == "resolver":
        port = _port(job, target)
        return Command(
            line=f"dig +tries=1 +time=3 {_word(f'@{target.host}')} -p {port or 53} . SOA",
            where=here,
            why="shows whether this name server answers at all",
        )
    return Command(
        line=f"dig +tries=1 +time=3 {_word(target.host)}",
        where=here,
        why="shows which name server is asked, and what it says",
    )


def _ask_target(job: JobReading, target: Target, strongest: Evidence, here: str) -> Command:
    port = _port(job, target)
    if strongest.metric is None and strongest.domain == "target_fault" and port is not None:
        return Command(
            line=f"ss -ltunp {_word(f'sport = :{port}')}",
            where=f"on the destination {target.host}",
            why="shows whether anything listens there",
        )
    if target.url is not None:
        phases = "name %{time_namelookup} connect %{time_connect} first byte %{time_starttransfer} s"
        return Command(
            line=f"curl -sv -o /dev/null -w {_word(phases)} {_word(target.url)}",
            where=here,
            why="shows the answer and how long each phase takes",
        )
    return _trace(target, port, here)


def _trace(target: Target, port: int | None, here: str) -> Command:
    over = f"--tcp --port {port} " if port is not None else ""
    return Command(
        line=f"mtr -n -r -c 20 {over}{_word(target.host)}",
        where=here,
        why="shows the hop at which delay or loss begins",
    )


def _target(job: JobReading) -> Target | None:
    try:
        return contract.parse_target(job.kind, job.target)
    except InvalidInputError:
        return None


def _port(job: JobReading, target: Target) -> int | None:
    """Return the port that a job aims at: the target's, that of its URL's scheme, or the test's parameter."""
    if target.port is not None:
        return target.port
    if target.url is not None:
        return 443 if target.url.startswith("https:") else 80
    if job.kind.target == "host_port":
        value: Any = job.spec.get("port")
        return value if isinstance(value, int) and value else None  # 0 leaves it to the kind
    return None


def _word(text: str) -> str:
    return shlex.quote(text)
