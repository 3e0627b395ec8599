"""What a controller holds, as far as suites are concerned, read over the REST API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class Api(Protocol):
    """The calls of the REST API's client that are needed here."""

    def items(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Return every item of a list."""

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Make something."""

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Change something."""

    def delete(self, path: str) -> None:
        """Delete something."""


@dataclass(frozen=True, kw_only=True)
class State:
    """Destinations, tests and workers of a controller, as its API shows them."""

    #: By name in lower case: names differ in more than case.
    destinations: Mapping[str, Mapping[str, Any]]
    tests: Mapping[str, Mapping[str, Any]]
    #: Worker's id → name.
    workers: Mapping[str, str]


def read_state(api: Api) -> State:
    """Ask a controller for what it holds."""
    return State(
        destinations={item["name"].lower(): item for item in api.items("/destinations", limit=500)},
        tests={item["name"].lower(): item for item in api.items("/tests", limit=500)},
        workers={item["id"]: item["name"] for item in api.items("/workers", limit=500)},
    )
