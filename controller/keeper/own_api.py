"""The part of the REST API that the fleet's modules ask for, answered in the keeper itself."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from controller.store.commands import workers as commands
from controller.store.commands.audit import Actor
from controller.store.queries import workers
from controller.store.queries.workers import WorkerRecord


class OwnApi:
    """Workers, by the paths of the REST API, on behalf of who asked for the operation."""

    def __init__(self, engine: Engine, actor: Actor) -> None:
        self._engine = engine
        self._actor = actor

    def items(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Return every worker that a search finds."""
        if path != "/workers":
            raise AssertionError(path)
        cursor: str | None = None
        while True:
            with Session(self._engine) as session:
                page = workers.find(session, search=query.get("search", ""), cursor=cursor)
            yield from map(_plain, page.items)
            cursor = page.next_cursor
            if cursor is None:
                return

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Revoke a worker."""
        _, area, worker_id, action = path.split("/")
        if (area, action, body) != ("workers", "revoke", None):
            raise AssertionError(path)
        with Session(self._engine) as session, session.begin():
            return _plain(commands.revoke(session, uuid.UUID(worker_id), actor=self._actor))

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Change site, labels or groups of a worker."""
        _, area, worker_id = path.split("/")
        if area != "workers":
            raise AssertionError(path)
        with Session(self._engine) as session, session.begin():
            return _plain(commands.update(session, uuid.UUID(worker_id), body, actor=self._actor))

    def delete(self, path: str, **query: Any) -> None:
        """Delete a worker; its results too when `with_data` is `true`."""
        _, area, worker_id = path.split("/")
        if area != "workers":
            raise AssertionError(path)
        with Session(self._engine) as session, session.begin():
            commands.delete(
                session,
                uuid.UUID(worker_id),
                with_data=query.get("with_data") == "true",
                actor=self._actor,
            )


def _plain(worker: WorkerRecord) -> dict[str, Any]:
    return {field.name: _value(getattr(worker, field.name)) for field in dataclasses.fields(worker)}


def _value(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return str(value) if isinstance(value, uuid.UUID) else value
