"""What the fleet needs of the controller's REST API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol


class Api(Protocol):
    """A client of the REST API."""

    def items(self, path: str, **query: Any) -> Iterator[dict[str, Any]]: ...
    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]: ...
    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]: ...
    def delete(self, path: str, **query: Any) -> None: ...


def workers_of(api: Api, host_name: str) -> list[dict[str, Any]]:
    """Return the workers that the controller knows for a host of the inventory; the search itself finds more."""
    return [worker for worker in api.items("/workers", search=host_name) if worker["host_name"] == host_name]
