"""Runs an upgrade that somebody asked for: the plan, gate and comparison of `streamswarm fleet upgrade`, in one operation.

Hosts that are returned to the release before are an operation of their own, as they are there: the history must tell
when a host had a release that was taken back.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
from collections.abc import Callable, Sequence

from controller.errors import StreamSwarmError
from controller.fleet import operations as playbooks
from controller.fleet.events import HostRecap, TaskEvent, TaskState
from controller.fleet.operations import OnEvent, PlaybookRequest, Recap
from controller.fleet.patterns import Names, pattern_of
from controller.fleet.recording import Recording
from controller.fleet.upgrades.left import left
from controller.fleet.upgrades.plan import describe, plan
from controller.fleet.upgrades.running import Outcome, Terms, Upgrade
from controller.fleet.upgrades.telling import Judged
from controller.keeper.ledger import StoreLedger
from controller.keeper.order import Order
from controller.keeper.own_api import OwnApi
from controller.keeper.transactions import transaction
from controller.store.commands import operations as commands
from controller.store.commands.operations import Claim
from controller.store.operation_words import BATCH, CANARY, PATIENCE_S

_log = logging.getLogger(__name__)
#: Longer lines of the log are told as a message, which is kept whole.
_LONGEST_TASK = 200


class Steps:
    """Runs the playbooks of an upgrade's steps."""

    def __init__(self, order: Order, on_event: OnEvent, cancelled: Callable[[], bool]) -> None:
        #: How each host came out of the last step that it was in.
        self.hosts: dict[str, HostRecap] = {}
        #: Why hosts did not get the release; that they were returned afterwards makes nothing of it good.
        self._failures: dict[str, HostRecap] = {}
        self._order = order
        self._on_event = on_event
        self._cancelled = cancelled
        self._names = Names.of(order.request.inventories)

    def look(self) -> Recap:
        """Say of each host from which release to which it would go."""
        request = dataclasses.replace(self._order.request, check=True)
        recap = playbooks.upgrade(request, cancelled=self._cancelled)
        # A host that cannot be named by itself is told before any is touched.
        self._on([host.host for host in recap.hosts])
        return recap

    def upgrade(self, hosts: Sequence[str]) -> Recap:
        """Bring hosts to the release."""
        recap = playbooks.upgrade(self._on(hosts), on_event=self._on_event, cancelled=self._cancelled)
        self._failures = {host.host: host for host in recap.hosts if not host.succeeded}
        return self._settled(recap)

    def roll_back(self, hosts: Sequence[str], bad_release: str, why: Sequence[str]) -> Recap:
        """Return hosts to the release before; once begun it is not stopped, whatever else is under way."""
        request = self._on(hosts)

        def run(*, on_event: OnEvent, **_: object) -> Recap:
            return playbooks.roll_back(request, bad_release=bad_release, why=why, on_event=on_event)

        try:
            claim = self._begin("rollback", hosts)
        except StreamSwarmError as error:
            _log.warning("the history lacks the rollback of %s: %s", ", ".join(hosts), error)
            return self._settled(run(on_event=self._on_event))
        recording = Recording(StoreLedger(self._order.engine, claim), ends_when_lost=True)
        return self._settled(recording.follow(run, on_event=self._on_event, cancelled=lambda: False))

    def note(self, judged: Judged) -> None:
        """Write down what was judged; where that fails the next upgrade judges it again."""

        def run(*, on_event: OnEvent, **_: object) -> Recap:
            return judged.tell(on_event)

        try:
            claim = self._begin("judge", judged.hosts)
        except StreamSwarmError as error:
            _log.warning("the history lacks that %s was judged: %s", ", ".join(judged.hosts), error)
            return
        recording = Recording(StoreLedger(self._order.engine, claim))
        recording.follow(run, cancelled=lambda: False)

    def _begin(self, kind: str, hosts: Sequence[str]) -> Claim:
        about = {"kind": kind, "limit": f"{len(hosts)} hosts", "hosts": list(hosts)}
        with transaction(self._order.engine) as session:
            begun = commands.begin(session, about, actor=self._order.actor, part_of=self._order.claim)
        return Claim(operation_id=begun.id, version=begun.version)

    def _on(self, hosts: Sequence[str]) -> PlaybookRequest:
        return dataclasses.replace(self._order.request, limit=pattern_of(hosts, self._names))

    def _settled(self, recap: Recap) -> Recap:
        hosts = [self._failures.get(host.host, host) if host.succeeded else host for host in recap.hosts]
        self._order.settle(hosts)
        self.hosts.update({host.host: host for host in hosts})
        return recap


def upgrade(order: Order, *, on_event: OnEvent, cancelled: Callable[[], bool]) -> Recap:
    """Bring the hosts to the release, step by step; one that was not begun is not in what is returned."""

    def say(line: str) -> None:
        # A task's name is kept short, a message whole.
        name, mark, rest = line.partition(": ") if len(line) > _LONGEST_TASK else (line, "", "")
        on_event(TaskEvent(host="", task=f"{name}{mark}".strip(), state=TaskState.OK, message=rest))

    options = order.asked.options
    steps = Steps(order, on_event, cancelled)
    looked = steps.look()
    if looked.cancelled:
        return looked
    api = OwnApi(order.engine, order.actor)
    planned = plan(
        looked.hosts,
        canary=options.get("canary", CANARY),
        batch=options.get("batch", BATCH),
        left=left(api, looked.hosts, now=dt.datetime.now(dt.UTC)),
    )
    for line in describe(planned):
        say(line)
    if order.asked.check or not (planned.steps or planned.left):
        return looked
    others = [host for host in looked.hosts if host.host not in planned.hosts]
    order.settle(others)
    terms = Terms(
        patience_s=options.get("patience", PATIENCE_S),
        accept_inconclusive=options.get("accept_inconclusive", False),
    )
    ended = Upgrade(api=api, playbooks=steps, terms=terms, say=say, stopped=cancelled).run(planned)
    return Recap(
        hosts=tuple({host.host: host for host in (*others, *steps.hosts.values())}.values()),
        cancelled=ended.outcome is Outcome.STOPPED,
        error=ended.why,
        mend=ended.mend,
    )
