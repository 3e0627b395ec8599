"""Hosts that have the release though nobody judged it there: an upgrade was stopped, or killed, before it could.

The controller's history tells: every step that was judged has an operation of the kind `judge` after that of its upgrade.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from controller.fleet.api import Api
from controller.fleet.events import HostRecap
from controller.fleet.upgrades.plan import Left, Move, Step, move_of
from controller.fleet.upgrades.samples import BASELINE, instant


def left(api: Api, recaps: Iterable[HostRecap], *, now: dt.datetime) -> tuple[Left, ...]:
    """Return them by the operation that left them, of what a check run of the playbook said of each host.

    What lies so far back that nothing could be compared any more is left alone.
    """
    found: dict[int, tuple[dt.datetime, list[Move]]] = {}
    for recap in recaps:
        move = move_of(recap)
        if not recap.succeeded or move is None or move.before != move.after:
            continue
        if operation := _left_by(api, recap.host, since=now - BASELINE):
            found.setdefault(operation["id"], (_begun(operation), []))[1].append(move)
    return tuple(
        Left(
            step=Step(name=f"left by operation {number}", moves=tuple(moves)),
            operation=number,
            started=started,
        )
        for number, (started, moves) in sorted(found.items())
    )


def _left_by(api: Api, host: str, *, since: dt.datetime) -> Mapping[str, Any] | None:
    """Return the upgrade after which nobody judged a host."""
    for operation in _lately(api, host, since):
        kind, succeeded = operation["kind"], operation["state"] == "succeeded"
        if kind in ("judge", "rollback", "provision", "remove") and succeeded:
            return None
        if kind == "upgrade" and _moved(api, operation["id"], host):
            return operation
    return None


def _lately(api: Api, host: str, since: dt.datetime) -> Iterator[Mapping[str, Any]]:
    for operation in api.items("/operations", host=host):
        if _begun(operation) < since:
            return
        if not operation["check"]:
            yield operation


def _begun(operation: Mapping[str, Any]) -> dt.datetime:
    return instant(operation["started_at"] or operation["created_at"])


def _moved(api: Api, operation_id: int, host: str) -> bool:
    """Whether an upgrade may have brought a host to the release: it was begun there, and not found to have it already."""
    for row in api.items(f"/operations/{operation_id}/hosts"):
        if row["host"] == host:
            return row["state"] != "waiting" and not (row["state"] == "ok" and row["changed"] == 0)
    return False
