"""The part of the REST API that the fleet's modules ask for, answered in the keeper itself."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sqlalchemy import Engine

from controller.keeper.transactions import transaction
from controller.plain import plain
from controller.plain_lines import planned_lines
from controller.store.commands import workers as commands
from controller.store.commands.audit import Actor
from controller.store.queries import operations, results, runs, tests, workers
from controller.store.queries.paging import Page

_ACTIONS = {
    "revoke": commands.revoke,
    "drained": commands.note_drained,
    "resumed": commands.note_resumed,
}


class OwnApi:
    """What operations ask for, by the paths of the REST API, on behalf of who asked for the operation."""

    def __init__(self, engine: Engine, actor: Actor) -> None:
        self._engine = engine
        self._actor = actor

    def items(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Return everything that a list has, page by page."""
        match path.strip("/").split("/"):
            case ["workers"]:
                return self._pages(
                    workers.find, search=query.get("search", ""), connected="connected" in query or None
                )
            case ["workers", worker_id, "jobs"]:
                return self._jobs(uuid.UUID(worker_id))
            case ["workers", worker_id, "releases"]:
                return self._releases(uuid.UUID(worker_id))
            case ["tests", test_id, "results"]:
                return self._results(int(test_id), **query)
            case ["operations"]:
                return self._pages(operations.find, host=query["host"])
            case ["operations", operation_id, "hosts"]:
                return self._hosts(int(operation_id))
        raise AssertionError(path)

    def _pages(self, find: Callable[..., Page[Any]], *of: Any, **query: Any) -> Iterator[dict[str, Any]]:
        cursor: str | None = None
        while True:
            with transaction(self._engine) as session:
                page = find(session, *of, cursor=cursor, **query)
            yield from map(plain, page.items)
            cursor = page.next_cursor
            if cursor is None:
                return

    def _jobs(self, worker_id: uuid.UUID) -> Iterator[dict[str, Any]]:
        with transaction(self._engine) as session:
            return iter(planned_lines(session, results.lines(session, worker_id=worker_id)))

    def _releases(self, worker_id: uuid.UUID) -> Iterator[dict[str, Any]]:
        with transaction(self._engine) as session:
            return iter([plain(release) for release in workers.releases_of(session, worker_id)])

    def _hosts(self, operation_id: int) -> Iterator[dict[str, Any]]:
        with transaction(self._engine) as session:
            return iter([plain(host) for host in operations.hosts_of(session, operation_id)])

    def _results(self, test_id: int, **query: Any) -> Iterator[dict[str, Any]]:
        with transaction(self._engine) as session:
            kind = tests.get(session, test_id).kind
        return self._pages(
            runs.find,
            test_id,
            kind,
            worker=uuid.UUID(query["worker"]),
            start=_instant(query.get("from")),
            end=_instant(query.get("to")),
            limit=query["limit"],
        )

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Revoke a worker, or note that it is out of service or in it again."""
        _, area, worker_id, action = path.split("/")
        if area != "workers" or body is not None:
            raise AssertionError(path)
        with transaction(self._engine) as session:
            return dict(plain(_ACTIONS[action](session, uuid.UUID(worker_id), actor=self._actor)))

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Change site, labels or groups of a worker."""
        _, area, worker_id = path.split("/")
        if area != "workers":
            raise AssertionError(path)
        with transaction(self._engine) as session:
            return dict(plain(commands.update(session, uuid.UUID(worker_id), body, actor=self._actor)))

    def delete(self, path: str, **query: Any) -> None:
        """Delete a worker; its results too when `with_data` is `true`."""
        _, area, worker_id = path.split("/")
        if area != "workers":
            raise AssertionError(path)
        with transaction(self._engine) as session:
            commands.delete(
                session,
                uuid.UUID(worker_id),
                with_data=query.get("with_data") == "true",
                actor=self._actor,
            )


def _instant(text: str | None) -> dt.datetime | None:
    return dt.datetime.fromisoformat(text) if text else None
