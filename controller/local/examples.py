"""Example tests of this machine, made once, so that the first look at the dashboard shows results arriving."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controller.local.resolver import ZONE
from controller.settings import Settings, on_this_machine
from controller.store.commands import destinations, tests
from controller.store.commands.audit import SYSTEM
from controller.store.entities import Test, Worker

_INTERVAL_S = 2.0


def create_once(session: Session, settings: Settings, *, host_name: str) -> tuple[str, ...]:
    """Make an example of each kind that the worker on `host_name` can run; returns their names.

    Does nothing when a test was ever made here, also when it has been deleted since.
    """
    if session.scalar(select(func.count()).select_from(Test)):
        return ()
    worker_id = session.scalar(
        select(Worker.id).where(Worker.host_name == host_name, Worker.deleted_at.is_(None))
    )
    unavailable = {kind for kind, _, _ in unavailable_kinds(session, host_name)}
    names = []
    for kind, destination, spec in _examples(settings):
        if kind in unavailable:
            continue
        aimed = []
        if destination is not None:
            name, address = destination
            values = {"name": name, "address": address, "description": "Made by `streamswarm up`."}
            aimed = [destinations.create(session, values, actor=SYSTEM).id]
        test = tests.create(
            session,
            {
                "name": f"Example {kind}",
                "description": "Made by `streamswarm up` to show results arriving. Delete it when it has served.",
                "kind": kind,
                "spec": spec,
                "destinations": aimed,
                "selection": {"workers": [str(worker_id)]},  # other hosts may not probe loopback
                "interval_s": _INTERVAL_S,
                "tags": ["example"],
            },
            actor=SYSTEM,
        )
        names.append(test.name)
    return tuple(names)


def unavailable_kinds(session: Session, host_name: str) -> tuple[tuple[str, str, str], ...]:
    """Return (kind, reason, mending command) for each kind that the worker on that host has announced as unavailable."""
    kinds: dict[str, Any] = (
        session.scalar(select(Worker.kinds).where(Worker.host_name == host_name, Worker.deleted_at.is_(None)))
        or {}
    )
    return tuple(
        (kind, entry["reason"], entry["mend"])
        for kind, entry in sorted(kinds.items())
        if not entry["available"]
    )


def _examples(settings: Settings) -> list[tuple[str, tuple[str, str] | None, dict[str, Any]]]:
    """Kind, name and address of the destination, parameters."""
    return [
        ("ping", ("This machine", "127.0.0.1"), {"count": 3, "interval_ms": 50}),
        ("tcp", ("Gateway of this machine", settings.public_gateways[0]), {}),
        (
            "dns",
            ("Example name server", on_this_machine(settings.example_resolver_listen)),
            {"query_name": ZONE.rstrip(".")},
        ),
        (
            "http",
            ("Dashboard of this machine", f"http://{on_this_machine(settings.web_listen)}/api/v1/health"),
            {},
        ),
        ("system", None, {}),
    ]
