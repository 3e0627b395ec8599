"""The controller's part of a removal: what becomes of a worker whose host is rid of it."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from controller.errors import NotFoundError


class Retirement(enum.StrEnum):
    """What becomes of the worker at the controller. Its results stay."""

    #: Its right to speak ends; it stays in the lists.
    REVOKE = "revoke"
    #: It goes from the lists too.
    DELETE = "delete"
    #: Nothing.
    KEEP = "keep"


class Api(Protocol):
    """What is needed of a client of the REST API."""

    def items(self, path: str, **query: Any) -> Iterator[dict[str, Any]]: ...
    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]: ...
    def delete(self, path: str) -> None: ...


def workers_of(api: Api, host_name: str) -> list[dict[str, Any]]:
    """Return the workers that the controller knows for a host of the inventory."""
    return [worker for worker in api.items("/workers", search=host_name) if worker["host_name"] == host_name]


def retire(api: Api, host_name: str, how: Retirement) -> str:
    """Do the controller's part for one host; returns what was done, empty when there was nothing to do."""
    done = ""
    for worker in workers_of(api, host_name) if how is not Retirement.KEEP else ():
        try:
            if how is Retirement.DELETE:
                api.delete(f"/workers/{worker['id']}")
                done = "deleted at the controller; its results stay"
            elif worker["state"] != "revoked":
                api.post(f"/workers/{worker['id']}/revoke")
                done = "revoked at the controller; its results stay"
        except NotFoundError:
            continue  # somebody else has deleted it meanwhile
    return done
