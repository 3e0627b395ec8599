"""`streamswarm fleet upgrade`: brings hosts to another release, and lets their own measurements decide."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from contextlib import closing

import click
from rich.console import Console
from rich.text import Text

from controller.cli.client import Client
from controller.cli.fleet_history import History
from controller.cli.fleet_progress import FleetProgress
from controller.cli.on_hosts import STOPPED
from controller.fleet import operations
from controller.fleet.operations import PlaybookRequest, Recap
from controller.fleet.upgrades.plan import Plan, plan

#: Some host does not have the release.
HOSTS_FAILED = 1
#: Too little was measured to say anything.
INCONCLUSIVE = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What the command was told beside the hosts."""

    canary: int
    batch: int
    patience_s: float
    accept_inconclusive: bool
    yes: bool


class _Playbooks:
    """Runs the playbooks on hosts by name, with progress shown; the controller writes each down."""

    def __init__(
        self, request: PlaybookRequest, client: Client, console: Console, stopped: Callable[[], bool]
    ) -> None:
        self._request = request
        self._client = client
        self._console = console
        self._stopped = stopped

    def look(self) -> Recap:
        """Say of each host from which release to which it would go."""
        request = dataclasses.replace(self._request, check=True)
        with FleetProgress(self._console, quiet=True) as progress:
            return operations.upgrade(request, on_event=progress.take, cancelled=self._stopped)

    def upgrade(self, hosts: Sequence[str]) -> Recap:
        """Bring hosts to the release."""
        request = self._on(hosts)
        history = History("upgrade", request, self._client)
        with FleetProgress(self._console) as progress:
            recap = history.follow(
                functools.partial(operations.upgrade, request),
                on_event=progress.take,
                cancelled=self._stopped,
            )
        if history.trouble:
            self._console.print(
                Text(f"The controller's history lacks this step or its end: {history.trouble}")
            )
        return recap

    def roll_back(self, hosts: Sequence[str], bad_release: str) -> Recap:
        """Return hosts to the release before; once begun it is not stopped, whatever else is under way."""
        with FleetProgress(self._console) as progress:
            return operations.roll_back(self._on(hosts), bad_release=bad_release, on_event=progress.take)

    def _on(self, hosts: Sequence[str]) -> PlaybookRequest:
        return dataclasses.replace(self._request, limit=",".join(hosts))


def upgrade(request: PlaybookRequest, options: Options, stopped: Callable[[], bool]) -> int:
    """Do it; returns the exit code."""
    from controller.fleet.upgrades.running import Ended, Outcome, Terms, Upgrade

    console = Console(stderr=True)

    def say(line: str) -> None:
        console.print(Text(line))

    with closing(Client.from_environment()) as client:
        playbooks = _Playbooks(request, client, console, stopped)
        recap = playbooks.look()
        if recap.cancelled:
            return STOPPED
        planned = plan(recap.hosts, canary=options.canary, batch=options.batch)
        for line in describe(planned):
            say(line)
        left_out = HOSTS_FAILED if planned.left_out else 0
        if request.check or not planned.steps:
            return left_out
        if not options.yes:
            click.confirm(f"Upgrade {len(planned.hosts)} hosts?", abort=True, err=True)
        terms = Terms(patience_s=options.patience_s, accept_inconclusive=options.accept_inconclusive)
        ended: Ended = Upgrade(api=client, playbooks=playbooks, terms=terms, say=say, stopped=stopped).run(
            planned
        )
    have = ", ".join(ended.upgraded) or "none"
    if ended.outcome is Outcome.DONE:
        say(f"Done: {len(ended.upgraded)} hosts have the release.")
        return left_out
    say(
        f"{ended.outcome.value.capitalize()}. Hosts that have the release now, of those that were to get it: {have}."
    )
    return {Outcome.PAUSED: INCONCLUSIVE, Outcome.STOPPED: STOPPED}.get(ended.outcome, HOSTS_FAILED)


def describe(planned: Plan) -> list[str]:
    """Return the plan, a line each."""
    lines = [f"{host}: cannot be upgraded: {why}" for host, why in planned.left_out]
    if planned.ready:
        lines.append(f"has the release already: {', '.join(planned.ready)}")
    for step in planned.steps:
        lines += [f"{step.name}: {move.host}: {move.before} → {move.after}" for move in step.moves]
    return lines or ["there is nothing to upgrade"]


def options_of(command: Callable[..., None]) -> Callable[..., None]:
    """Give the command the options that `Options` holds."""
    for option in reversed(
        (
            click.option(
                "--canary",
                type=click.IntRange(0),
                default=1,
                show_default=True,
                help="Hosts that go first, alone.",
            ),
            click.option(
                "--batch",
                type=click.IntRange(1),
                default=10,
                show_default=True,
                help="Hosts in each further step.",
            ),
            click.option(
                "--patience",
                "patience_s",
                type=click.FloatRange(0, 86_400),
                default=900.0,
                show_default=True,
                help="Seconds in which a step's hosts gather runs to be compared, at the most.",
            ),
            click.option(
                "--accept-inconclusive", is_flag=True, help="Go on where there is too little to compare."
            ),
            click.option("--yes", is_flag=True, help="Do not ask."),
        )
    ):
        command = option(command)
    return command
