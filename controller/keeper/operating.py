"""Runs an operation on the fleet that somebody asked for: the playbook in a process of its own, written down as it goes.

Ansible's process hangs on a terminal of this one: where the keeper dies it ends too, and the next look of any keeper
finds the operation interrupted. It is not begun anew by itself; whoever asked for it decides.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from controller.errors import ConfigurationError, DatabaseUnavailableError, StreamSwarmError
from controller.fleet import operations as playbooks
from controller.fleet.api import workers_of
from controller.fleet.description import describe
from controller.fleet.desk import Grant, Reach
from controller.fleet.inventory import InventoryHost, load_inventory
from controller.fleet.operations import PlaybookRequest, Recap
from controller.fleet.recording import Recording
from controller.fleet.retirement import Retirement, retire
from controller.fleet.verification import faults
from controller.keeper.own_api import OwnApi
from controller.logs import reason
from controller.roots import trusted_roots
from controller.settings import Settings
from controller.store.commands import operation_progress as progress
from controller.store.commands import operations as commands
from controller.store.commands.audit import Actor
from controller.store.commands.enrolment import make_enrolment_token
from controller.store.commands.operations import Claim
from controller.store.operation_notes import HostNote, Standing, TaskNote
from controller.store.queries import operations
from controller.store.queries.operations import OperationRecord

_log = logging.getLogger(__name__)

T = TypeVar("T")

#: The group of an inventory that the playbooks work on.
GROUP = "workers"
#: Options of a removal → variables of its playbook.
_REMOVAL = {
    "keep_data": "streamswarm_worker_keep_data",
    "discard": "streamswarm_worker_discard",
    "wait": "streamswarm_worker_drain_timeout",
}


class StoreLedger:
    """Writes an operation down in the database."""

    def __init__(self, engine: Engine, claim: Claim) -> None:
        self._engine = engine
        self._claim = claim

    def record(self, notes: Sequence[TaskNote], outcomes: Sequence[HostNote]) -> Standing:
        """Write what happened."""
        return self._do(lambda session: progress.record(session, self._claim, notes, outcomes))

    def finish(self, state: str, *, error: str, mend: str) -> None:
        """Write how it ended."""
        self._do(lambda session: progress.finish(session, self._claim, state=state, error=error, mend=mend))

    def _do(self, work: Callable[[Session], T]) -> T:
        try:
            with Session(self._engine) as session, session.begin():
                return work(session)
        except OperationalError as error:
            raise DatabaseUnavailableError(reason(error)) from error


def operate(engine: Engine, settings: Settings, operation_id: int, stopping: threading.Event) -> bool:
    """Run an operation that waits; return whether it was there to be run."""
    with Session(engine) as session, session.begin():
        claim = commands.take_up(session, operation_id)
        if claim is None:
            _log.info("operation %s is cancelled, over, or was begun by another keeper", operation_id)
            return False
        asked = operations.get(session, operation_id)
    _log.info("operation %s begins: %s", operation_id, asked.kind)

    def run(**watching: Any) -> Recap:
        request = _request(settings, asked)
        hosts = load_inventory(request.inventories, limit=asked.limit)
        with Session(engine) as session, session.begin():
            commands.claim_hosts(session, claim, [host.name for host in hosts if GROUP in host.groups])
        return _KINDS[asked.kind](engine, settings, asked, request, **watching)

    try:
        Recording(StoreLedger(engine, claim)).follow(
            run, cancelled=stopping.is_set, interrupted="the keeper that ran it was stopped"
        )
    except StreamSwarmError as error:
        # It is told where people look; the task itself has done what it is for.
        _log.warning("operation %s failed: %s", operation_id, error.message)
    _log.info("operation %s is over", operation_id)
    return True


def _request(settings: Settings, asked: OperationRecord) -> PlaybookRequest:
    if not settings.inventory:
        raise ConfigurationError(
            "no inventory is set where the keeper runs, so it knows no hosts",
            mend="set STREAMSWARM_INVENTORY for the keeper to the path of an Ansible inventory on its machine, give its "
            "account the SSH keys that it names, and restart it; `streamswarm fleet` works without",
        )
    variables = {
        variable: asked.options[option] for option, variable in _REMOVAL.items() if option in asked.options
    }
    return PlaybookRequest(
        inventories=settings.inventory,
        limit=asked.limit,
        check=asked.check,
        forks=asked.forks,
        variables=variables,
    )


def _provision(
    engine: Engine, settings: Settings, asked: OperationRecord, request: PlaybookRequest, **watching: Any
) -> Recap:
    def reach() -> Reach:
        return Reach(
            ca_pem=trusted_roots(settings.data_dir),
            enrolment=settings.public_enrolment,
            gateways=settings.public_gateways,
        )

    def grant_for(host: InventoryHost) -> Grant:
        found = reach()
        with Session(engine) as session, session.begin():
            token = make_enrolment_token(
                session,
                host.name,
                minutes=settings.enrolment_token_minutes,
                actor=Actor(name=asked.made_by),
                site=host.site,
                labels=host.labels,
                groups=host.groups,
            )
        return Grant(token=token, ca_pem=found.ca_pem, enrolment=found.enrolment, gateways=found.gateways)

    api = OwnApi(engine, Actor(name=asked.made_by))
    hosts = {host.name: host for host in load_inventory(request.inventories)}
    return playbooks.provision(
        request,
        grant_for=grant_for,
        ask_reach=reach,
        describe=lambda host: describe(api, hosts[host]),
        **watching,
    )


def _remove(
    engine: Engine, settings: Settings, asked: OperationRecord, request: PlaybookRequest, **watching: Any
) -> Recap:
    api = OwnApi(engine, Actor(name=asked.made_by))
    how = Retirement(asked.options.get("on_controller", Retirement.REVOKE))
    return playbooks.remove(request, retire=lambda host: retire(api, host, how), **watching)


def _verify(
    engine: Engine, settings: Settings, asked: OperationRecord, request: PlaybookRequest, **watching: Any
) -> Recap:
    api = OwnApi(engine, Actor(name=asked.made_by))

    def examine(host: str) -> str:
        return "; ".join(faults(workers_of(api, host), now=dt.datetime.now(dt.UTC)))

    return playbooks.verify(request, examine=examine, **watching)


_KINDS: Mapping[str, Callable[..., Recap]] = {"provision": _provision, "remove": _remove, "verify": _verify}
