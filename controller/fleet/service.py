"""Whether a worker is to be in service, told to the controller: nobody waits for one that is drained."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Literal

from controller.errors import StreamSwarmError
from controller.fleet.api import Api, workers_of

#: What was done to a worker, as the REST API calls it.
Done = Literal["drained", "resumed"]


def tell(connect: Callable[[], AbstractContextManager[Api]], host_name: str, done: Done) -> str:
    """Tell the controller that a host's worker was taken out of service or put into it; returns why it was not told.

    What was done on the host is done: a controller that is away changes nothing of it.
    """
    try:
        with connect() as api:
            for worker in workers_of(api, host_name):
                if worker["state"] not in ("revoked", "pending"):
                    api.post(f"/workers/{worker['id']}/{done}")
    except StreamSwarmError as error:
        return f"the controller was not told that it is {done}: {error.message}"
    return ""
