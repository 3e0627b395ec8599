"""Runs an operation on the fleet that somebody asked for: the playbook in a process of its own, written down as it goes.

Ansible's process hangs on a terminal of this one: where the keeper dies it ends too, and the next look of any keeper
finds the operation interrupted. It is not begun anew by itself; whoever asked for it decides.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from controller.errors import ConfigurationError, StreamSwarmError
from controller.fleet import operations as playbooks
from controller.fleet.api import workers_of
from controller.fleet.description import describe
from controller.fleet.desk import Grant, Reach
from controller.fleet.inventory import InventoryHost, load_inventory
from controller.fleet.operations import PlaybookRequest, Recap
from controller.fleet.patterns import Names, check_pattern, pattern_of
from controller.fleet.recording import Recording
from controller.fleet.retirement import Retirement, retire
from controller.fleet.service import Done, tell
from controller.fleet.verification import faults
from controller.keeper.ledger import StoreLedger
from controller.keeper.order import Order
from controller.keeper.own_api import OwnApi
from controller.keeper.upgrading import upgrade
from controller.roots import trusted_roots
from controller.settings import Settings
from controller.store import run_time
from controller.store.commands import operations as commands
from controller.store.commands.enrolment import make_enrolment_token
from controller.store.operation_words import ASKED
from controller.store.queries import operations
from controller.store.queries.operations import OperationRecord

_log = logging.getLogger(__name__)

#: The group of an inventory that the playbooks work on.
GROUP = "workers"
#: Options → variables of the playbooks.
_VARIABLES = {
    "keep_data": "streamswarm_worker_keep_data",
    "discard": "streamswarm_worker_discard",
    "wait": "streamswarm_worker_drain_timeout",
    "release": "streamswarm_worker_to",
    "force": "streamswarm_worker_force",
}


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
        hosts = load_inventory(request.inventories, limit=request.limit)
        with Session(engine) as session, session.begin():
            commands.claim_hosts(session, claim, [host.name for host in hosts if GROUP in host.groups])
        order = Order(
            engine=engine,
            settings=settings,
            asked=asked,
            claim=claim,
            request=request,
            settle=recording.settle,
        )
        return _KINDS[asked.kind](order, **watching)

    recording = Recording(StoreLedger(engine, claim), ends_when_lost=True)
    try:
        recording.follow(run, cancelled=stopping.is_set, interrupted="the keeper that ran it was stopped")
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
        variable: asked.options[option] for option, variable in _VARIABLES.items() if option in asked.options
    }
    limit = asked.limit
    if limit:
        names = Names.of(settings.inventory)
        check_pattern(limit, names)
        if asked.options.get("one_host"):
            limit = pattern_of([limit], names)
    return PlaybookRequest(
        inventories=settings.inventory,
        limit=limit,
        check=asked.check,
        forks=asked.forks,
        variables=variables,
    )


def _provision(order: Order, **watching: Any) -> Recap:
    settings, request = order.settings, order.request

    def reach() -> Reach:
        return Reach(
            ca_pem=trusted_roots(settings.data_dir),
            enrolment=settings.public_enrolment,
            gateways=settings.public_gateways,
        )

    def grant_for(host: InventoryHost) -> Grant:
        found = reach()
        with Session(order.engine) as session, session.begin():
            token = make_enrolment_token(
                session,
                host.name,
                minutes=run_time.value_of(session, settings, "enrolment_token_minutes"),
                actor=order.actor,
                site=host.site,
                labels=host.labels,
                groups=host.groups,
            )
        return Grant(token=token, ca_pem=found.ca_pem, enrolment=found.enrolment, gateways=found.gateways)

    api = OwnApi(order.engine, order.actor)
    hosts = playbooks.hosts_of(request)
    return playbooks.provision(
        request,
        grant_for=grant_for,
        ask_reach=reach,
        describe=lambda host: describe(api, hosts[host]),
        **watching,
    )


def _remove(order: Order, **watching: Any) -> Recap:
    api = OwnApi(order.engine, order.actor)
    how = Retirement(order.asked.options.get("on_controller", Retirement.REVOKE))
    return playbooks.remove(order.request, retire=lambda host: retire(api, host, how), **watching)


def _verify(order: Order, **watching: Any) -> Recap:
    api = OwnApi(order.engine, order.actor)
    hosts = playbooks.hosts_of(order.request)

    def examine(host: str) -> str:
        now = dt.datetime.now(dt.UTC)
        return "; ".join(faults(workers_of(api, host), now=now, policy=hosts[host].policy))

    return playbooks.verify(order.request, examine=examine, **watching)


def _plainly(play: Callable[..., Recap]) -> Callable[..., Recap]:
    """Return what runs a playbook that needs nothing of the controller."""

    def run(order: Order, **watching: Any) -> Recap:
        return play(order.request, **watching)

    return run


def _telling(play: Callable[..., Recap], done: Done) -> Callable[..., Recap]:
    """Return what runs a playbook and notes of each host's worker what was done to it."""

    def run(order: Order, **watching: Any) -> Recap:
        api = OwnApi(order.engine, order.actor)
        return play(order.request, tell=lambda host: tell(lambda: nullcontext(api), host, done), **watching)

    return run


_KINDS: Mapping[str, Callable[..., Recap]] = {
    "provision": _provision,
    "upgrade": upgrade,
    "verify": _verify,
    "restart": _plainly(playbooks.restart),
    "drain": _telling(playbooks.drain, "drained"),
    "resume": _telling(playbooks.resume, "resumed"),
    "rotate": _plainly(playbooks.rotate),
    "remove": _remove,
}
if set(_KINDS) != set(ASKED):
    raise AssertionError("a keeper runs what may be asked of it")
