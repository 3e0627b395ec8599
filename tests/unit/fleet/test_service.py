"""The controller is told that a worker was taken out of service; where that fails, what was done is done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from controller.errors import StreamSwarmError
from controller.fleet.service import Done, tell


class Api:
    """Answers as the REST API does and keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def items(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Return two hosts' workers, one of them twice: revoked once."""
        workers = [("1", "a", "offline"), ("2", "ab", "connected"), ("3", "a", "revoked")]
        return ({"id": number, "host_name": host, "state": state} for number, host, state in workers)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Keep it."""
        self.told.append(path)
        return {}

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Never called."""
        raise AssertionError(path)

    def delete(self, path: str, **query: Any) -> None:
        """Never called."""
        raise AssertionError(path)


@pytest.mark.parametrize("done", ["drained", "resumed"])
def test_the_worker_of_the_host_is_told_of_and_no_other(done: Done) -> None:
    """Not of one whose name begins alike, nor of one that is revoked."""
    api = Api()
    assert tell(lambda: nullcontext(api), "a", done) == ""
    assert api.told == [f"/workers/1/{done}"]


def test_a_controller_that_is_away_is_a_note() -> None:
    """The reason is in it, whether there is no way to it or it does not answer."""

    def away() -> AbstractContextManager[Api]:
        raise StreamSwarmError("nobody answers at https://example.org")

    said = tell(away, "a", "drained")
    assert said == "the controller was not told that it is drained: nobody answers at https://example.org"
