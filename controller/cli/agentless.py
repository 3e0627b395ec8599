"""`streamswarm run --on`: the suites' tests on inventory hosts, once each, with nothing left there."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from controller.cli.fleet_progress import FleetProgress
from controller.cli.on_hosts import stop_by_signal, usual_inventories
from controller.errors import StreamSwarmError
from controller.fleet.agentless import HostAnswer, run_once
from controller.fleet.operations import PlaybookRequest
from controller.fleet.patterns import Names, check_pattern
from controller.printable import printable
from controller.suites.execution import Judge
from controller.suites.outcome import SuiteRun
from controller.suites.suite import Suite


def run_on_hosts(
    suites: Sequence[Suite],
    *,
    on: str,
    inventories: tuple[Path, ...],
    limit: str,
    forks: int,
    become: bool,
    quiet: bool,
) -> tuple[SuiteRun, ...] | None:
    """Run the suites on the hosts of a pattern; returns what came of each suite on each host, None when stopped.

    What could not be removed from a host when it was stopped is told on standard error.
    """
    inventories = usual_inventories(inventories)
    names = Names.of(inventories)
    for pattern in (on, limit):
        check_pattern(pattern, names)
    request = PlaybookRequest(inventories=inventories, limit=limit, forks=forks)
    console = Console(stderr=True, quiet=quiet)
    with stop_by_signal() as stopped, FleetProgress(console) as progress:
        answers = run_once(
            request,
            Judge(suites).jobs,
            on=on,
            become=become,
            on_event=progress.take,
            cancelled=stopped.is_set,
        )
    if answers.cancelled:
        for host in answers.hosts:
            problem = f"{host.host}: what was brought there could not be removed: {host.problem}"
            click.echo(printable(problem), err=True)
        return None
    return tuple(run for host in answers.hosts for run in _judged(suites, host))


def _judged(suites: Sequence[Suite], answer: HostAnswer) -> tuple[SuiteRun, ...]:
    """Return what came of the suites on one host."""
    times = {"started_at": answer.started_at, "duration_s": answer.duration_s}
    judging = Judge(suites, host=answer.host)
    if answer.problem:
        return judging.nothing(answer.problem, **times)
    try:
        for result in answer.results:
            judging.take(result)
        runs = judging.verdict(**times)
    except StreamSwarmError as error:
        return Judge(suites, host=answer.host).nothing(error.message, **times)
    return tuple(dataclasses.replace(run, remark=answer.remark) for run in runs)
