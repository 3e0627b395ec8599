"""What becomes of a worker at the controller when its host is rid of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from controller.errors import NotFoundError
from controller.fleet.retirement import Retirement, retire


class Api:
    """Answers as the REST API does and keeps the changes that it was asked for."""

    def __init__(self, *workers: tuple[str, str, str], gone: bool = False) -> None:
        self._workers = [{"id": number, "host_name": host, "state": state} for number, host, state in workers]
        self._gone = gone
        self.changes: list[str] = []

    def items(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        assert path == "/workers"
        return (worker for worker in self._workers if query["search"] in worker["host_name"])

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        self._change(f"POST {path}")
        return {}

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        raise AssertionError(path)

    def delete(self, path: str, **query: Any) -> None:
        self._change(f"DELETE {path}{query or ''}")

    def _change(self, call: str) -> None:
        if self._gone:
            raise NotFoundError("there is no such worker")
        self.changes.append(call)


@pytest.mark.parametrize(
    ("how", "changes"),
    [
        (Retirement.REVOKE, ["POST /workers/b/revoke"]),
        (Retirement.DELETE, ["DELETE /workers/b"]),
        (Retirement.DELETE_WITH_DATA, ["DELETE /workers/b{'with_data': 'true'}"]),
        (Retirement.KEEP, []),
    ],
)
def test_only_the_worker_of_the_host_is_touched(how: Retirement, changes: list[str]) -> None:
    """The search also finds names that only contain the host's; those stay."""
    api = Api(("a", "edge-10", "connected"), ("b", "edge-1", "offline"))
    said = retire(api, "edge-1", how)
    assert api.changes == changes
    assert bool(said) == bool(changes)


def test_a_revoked_worker_is_not_revoked_again_but_can_be_deleted() -> None:
    """A second removal has nothing to do, unless the worker shall go from the lists."""
    api = Api(("a", "edge-1", "revoked"))
    assert retire(api, "edge-1", Retirement.REVOKE) == ""
    assert retire(api, "edge-1", Retirement.DELETE)
    assert api.changes == ["DELETE /workers/a"]


def test_a_worker_that_is_gone_meanwhile_is_no_fault() -> None:
    """Somebody who deletes it at the same time does the same work."""
    assert retire(Api(("a", "edge-1", "offline"), gone=True), "edge-1", Retirement.DELETE) == ""
