"""`streamswarm fleet upgrade`: brings hosts to another release, and lets their own measurements decide."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.text import Text

from controller.cli.client import Client
from controller.cli.fleet_history import History
from controller.cli.fleet_progress import FleetProgress
from controller.cli.on_hosts import STOPPED
from controller.fleet import operations
from controller.fleet.operations import PlaybookRequest, Recap
from controller.fleet.patterns import Names, pattern_of
from controller.fleet.upgrades.left import left
from controller.fleet.upgrades.plan import Plan, describe, plan
from controller.printable import printable
from controller.store.operation_words import BATCH, CANARY, PATIENCE_S

if TYPE_CHECKING:
    from controller.fleet.upgrades.running import Ended
    from controller.fleet.upgrades.telling import Judged

#: Some host does not have the release.
HOSTS_FAILED = 1
#: Too little was measured to say anything.
INCONCLUSIVE = 3
#: A step was returned, and some host of it does not confirm that it is on the release before.
UNCONFIRMED = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What the command was told beside the hosts."""

    canary: int
    batch: int
    patience_s: float
    accept_inconclusive: bool
    yes: bool


class Playbooks:
    """Runs the playbooks on hosts by name, with progress shown; the controller writes each down."""

    def __init__(
        self, request: PlaybookRequest, client: Client, console: Console, stopped: Callable[[], bool]
    ) -> None:
        self._request = request
        self._client = client
        self._console = console
        self._stopped = stopped
        self._names = Names.of(request.inventories)
        #: The first step that was written down, to which the others belong.
        self._first: int | None = None

    def look(self) -> Recap:
        """Say of each host from which release to which it would go."""
        request = dataclasses.replace(self._request, check=True)
        with FleetProgress(self._console, quiet=True) as progress:
            recap = operations.upgrade(request, on_event=progress.take, cancelled=self._stopped)
        # A host that cannot be named by itself is told before any is touched.
        self._on([host.host for host in recap.hosts])
        return recap

    def upgrade(self, hosts: Sequence[str]) -> Recap:
        """Bring hosts to the release."""
        request = self._on(hosts)
        history = History("upgrade", request, self._client, part_of=self._first)
        return self._follow(history, functools.partial(operations.upgrade, request))

    def roll_back(self, hosts: Sequence[str], bad_release: str, why: Sequence[str]) -> Recap:
        """Return hosts to the release before; once begun it is not stopped, whatever else is under way."""
        request = self._on(hosts)

        def run(*, on_event: operations.OnEvent, **_: object) -> Recap:
            return operations.roll_back(request, bad_release=bad_release, why=why, on_event=on_event)

        history = History("rollback", request, self._client, insists=True, part_of=self._first)
        return self._follow(history, run)

    def note(self, judged: Judged) -> None:
        """Write down what was judged; where that fails the next upgrade judges it again, which is said."""
        request = self._on(judged.hosts)
        history = History("judge", request, self._client, insists=True, part_of=self._first)

        def run(*, on_event: operations.OnEvent, **_: object) -> Recap:
            return judged.tell(on_event)

        history.follow(run, on_event=lambda _: None, cancelled=lambda: False)
        self._look_at(history)

    def _follow(self, history: History, operation: Callable[..., Recap]) -> Recap:
        with FleetProgress(self._console) as progress:
            recap = history.follow(operation, on_event=progress.take, cancelled=self._stopped)
        self._look_at(history)
        return recap

    def _look_at(self, history: History) -> None:
        """Keep which step was the first that was written down, and say why one was not."""
        if self._first is None:
            self._first = history.number
        if history.trouble:
            self._console.print(
                Text(printable(f"The controller's history lacks this step or its end: {history.trouble}"))
            )

    def _on(self, hosts: Sequence[str]) -> PlaybookRequest:
        return dataclasses.replace(self._request, limit=pattern_of(hosts, self._names))


def upgrade(request: PlaybookRequest, options: Options, stopped: Callable[[], bool]) -> int:
    """Do it; returns the exit code."""
    from controller.fleet.upgrades.running import Outcome, Terms, Upgrade

    console = Console(stderr=True)

    def say(line: str) -> None:
        console.print(Text(printable(line)))

    with closing(Client.from_environment()) as client:
        playbooks = Playbooks(request, client, console, stopped)
        recap = playbooks.look()
        if recap.cancelled:
            return STOPPED
        unjudged = left(client, recap.hosts, now=dt.datetime.now(dt.UTC))
        planned = plan(recap.hosts, canary=options.canary, batch=options.batch, left=unjudged)
        for line in describe(planned):
            say(line)
        left_out = HOSTS_FAILED if planned.left_out else 0
        if request.check or not (planned.steps or planned.left):
            return left_out
        if not options.yes:
            click.confirm(_question(planned), abort=True, err=True)
        terms = Terms(patience_s=options.patience_s, accept_inconclusive=options.accept_inconclusive)
        ended = Upgrade(api=client, playbooks=playbooks, terms=terms, say=say, stopped=stopped).run(planned)
    for line in told(ended):
        say(line)
    return left_out if ended.outcome is Outcome.DONE else exit_code(ended)


def _question(planned: Plan) -> str:
    unjudged = sum(len(each.step.hosts) for each in planned.left)
    first = f"Judge {unjudged} hosts that have the release" if unjudged else ""
    then = f"upgrade {len(planned.hosts)} hosts" if planned.hosts else ""
    words = ", then ".join(filter(None, (first, then)))
    return f"{words[0].upper()}{words[1:]}?"


def told(ended: Ended) -> Iterator[str]:
    """Return how an upgrade ended, a line each."""
    if ended.outcome.value == "done":
        yield f"Done: {len(ended.upgraded)} hosts have the release."
        return
    have = ", ".join(ended.upgraded) or "none"
    yield (
        f"{ended.outcome.value.capitalize()}. Hosts that have the release now, of those that were to get it: {have}."
    )
    if ended.unjudged and ended.outcome.value != "paused":
        yield f"May have it too, which no step judged there: {', '.join(ended.unjudged)}. What to do: {ended.mend}."


def exit_code(ended: Ended) -> int:
    """Return the exit code of an upgrade that did not go through to its end."""
    codes = {
        "paused": INCONCLUSIVE,
        "stopped": STOPPED,
        "rolled back": UNCONFIRMED if ended.unjudged else HOSTS_FAILED,
    }
    return codes[ended.outcome.value]


def options_of(command: Callable[..., None]) -> Callable[..., None]:
    """Give the command the options that `Options` holds."""
    for option in reversed(
        (
            click.option(
                "--canary",
                type=click.IntRange(0),
                default=CANARY,
                show_default=True,
                help="Hosts that go first, alone.",
            ),
            click.option(
                "--batch",
                type=click.IntRange(1),
                default=BATCH,
                show_default=True,
                help="Hosts in each further step.",
            ),
            click.option(
                "--patience",
                "patience_s",
                type=click.FloatRange(0, 86_400),
                default=float(PATIENCE_S),
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
