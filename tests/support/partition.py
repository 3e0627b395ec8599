"""A network that is cut: packets between workers and their gateway vanish, and nobody is told.

Everything runs in a network namespace of its own. What comes to or from the gateway's port is dropped there, so both
ends keep connections that are dead; what the workers measure goes to another port and is measured all the while.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lab.commands import call
from lab.network import delete_namespace, entered, within
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from support.accounts import Found, compare, waits_beyond
from support.crowd import Crowd, crowd
from support.installation import Installation, installation
from support.surroundings import wait_for

from controller.gateway.credit import CREDIT_BYTES
from controller.store.entities import Worker
from controller.store.queries.workers import is_connected

#: How soon a dead connection must be told as such.
TOLD_WITHIN_S = 60.0
#: How soon, after the cut ends, every worker must have delivered what had waited.
DRAINED_WITHIN_S = 60.0
#: What a gateway may need beside what its workers may have unacknowledged: what it loads at its first drain.
_ALLOWANCE_BYTES = 32 * 2**20
_DESTINATIONS, _INTERVAL_S = 2, 2.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was seen of one cut."""

    found: Found
    #: Results that waited in the spools when the cut ended.
    waited: int
    #: Seconds from the cut until no worker was shown as connected.
    told_s: float
    #: Most workers that were shown as connected between then and the end of the cut.
    shown_connected: int
    #: Seconds from the end of the cut until a worker had delivered what had waited, for the slowest.
    drained_s: float
    #: Resident size of the gateway before the cut and at most since, in bytes.
    rss_before: int
    rss_most: int
    #: How often a process has ended by itself.
    failures: int
    workers: int

    @property
    def rss_bound(self) -> int:
        """What the gateway may have grown to."""
        return self.rss_before + self.workers * CREDIT_BYTES + _ALLOWANCE_BYTES

    @property
    def ok(self) -> bool:
        """Whether nothing was lost or doubled, and all was in time and within bounds."""
        return (
            self.found.clean
            and self.waited > 0
            and self.told_s <= TOLD_WITHIN_S
            and self.shown_connected == 0
            and self.drained_s <= DRAINED_WITHIN_S
            and self.rss_most <= self.rss_bound
            and not self.failures
        )


def needs() -> str:
    """What is missing for namespaces; empty when nothing is."""
    return "" if os.geteuid() == 0 else "needs root for network namespaces; run it with sudo to include it"


def partition(*, workers: int, cut_s: float) -> Outcome:
    """Cut so many workers off for a while, heal the network, and compare; the cut lasts until it was told, at least."""
    with _network() as network, installation(gateways=1) as made, crowd(made, workers) as people:
        (gateway,) = made.gateways
        for part in (gateway, made.keeper):
            part.start()
        wait_for("all workers connected", lambda: _connected(made) == workers, 120)
        made.make_test(
            destinations_count=_DESTINATIONS,
            interval_s=_INTERVAL_S,
            address=made.settings.enrolment_address,
        )
        wait_for("results of all workers", lambda: _delivering(made) == workers, 120)
        rss_before = rss_most = gateway.process.memory_info().rss

        started = time.monotonic()
        network.cut(made.settings.gateway_addresses[0])
        told_s = wait_for("all workers told as disconnected", lambda: not _connected(made), 4 * TOLD_WITHIN_S)
        shown_connected = 0
        while time.monotonic() - started < cut_s:
            time.sleep(1)
            shown_connected = max(shown_connected, _connected(made))
            rss_most = max(rss_most, gateway.process.memory_info().rss)
        newest = {worker_id: ledger.newest() for worker_id, ledger in people.ledgers.items()}
        waited = sum(ledger.waiting() for ledger in people.ledgers.values())
        network.heal()

        healed = time.monotonic()
        late = dict(newest)
        drained_s = 0.0
        while late:
            drained_s = time.monotonic() - healed
            assert drained_s < 4 * DRAINED_WITHIN_S, f"{len(late)} of {workers} workers have not delivered"
            late = {each: seq for each, seq in late.items() if not waits_beyond(people.ledgers[each], seq)}
            rss_most = max(rss_most, gateway.process.memory_info().rss)
            time.sleep(0.25)

        made.delete_tests()
        wait_for("the load has ended", lambda: _stands_still(people), 120)
        people.said()
        return Outcome(
            found=compare(made, people.ledgers),
            waited=waited,
            told_s=told_s,
            shown_connected=shown_connected,
            drained_s=drained_s,
            rss_before=rss_before,
            rss_most=rss_most,
            failures=sum(part.failures for part in made.all_parts()),
            workers=workers,
        )


class _Network:
    """A namespace with nothing but loopback."""

    def __init__(self, name: str) -> None:
        self._name = name

    def cut(self, address: str) -> None:
        """Drop every packet to and from a port, from now on."""
        port = address.rpartition(":")[2]
        rules = (
            "add table inet partition",
            "add chain inet partition input { type filter hook input priority 0; }",
            f"add rule inet partition input tcp dport {port} drop",
            f"add rule inet partition input tcp sport {port} drop",
        )
        # In one transaction: otherwise one direction would live on for a moment.
        call(within(self._name, ["nft", "-f", "-"]), text_input="\n".join(rules) + "\n")

    def heal(self) -> None:
        """Let everything through again."""
        call(within(self._name, ["nft", "delete", "table", "inet", "partition"]))


@contextmanager
def _network() -> Iterator[_Network]:
    """Put this thread and what it starts into a namespace of its own, gone afterwards."""
    name = f"partition-{secrets.token_hex(3)}"
    call(["ip", "netns", "add", name])
    try:
        call(["ip", "-n", name, "link", "set", "lo", "up"])
        with entered(name):
            yield _Network(name)
    finally:
        delete_namespace(name)


def _connected(made: Installation) -> int:
    """How many workers are shown as connected."""
    with Session(made.engine) as session:
        return session.scalar(select(func.count()).select_from(Worker).where(is_connected())) or 0


def _delivering(made: Installation) -> int:
    statement = "SELECT count(DISTINCT j.worker_id) FROM result_tcp r JOIN jobs j ON j.id = r.job_id"
    return int(made.sql(statement)[0][0])


def _stands_still(people: Crowd) -> bool:
    """Whether nothing waits, and nothing was added for a few of the load's intervals."""
    before = [ledger.newest() for ledger in people.ledgers.values()]
    if any(ledger.oldest_waiting() is not None for ledger in people.ledgers.values()):
        return False
    time.sleep(3 * _INTERVAL_S)
    return before == [ledger.newest() for ledger in people.ledgers.values()]
