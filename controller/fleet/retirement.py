"""The controller's part of a removal: what becomes of a worker whose host is rid of it."""

from __future__ import annotations

import enum

from controller.errors import NotFoundError
from controller.fleet.api import Api, workers_of


class Retirement(enum.StrEnum):
    """What becomes of the worker at the controller."""

    #: Its right to speak ends; it stays in the lists, and its results stay.
    REVOKE = "revoke"
    #: It goes from the lists too; its results stay.
    DELETE = "delete"
    #: Its results go too.
    DELETE_WITH_DATA = "delete-with-data"
    #: Nothing.
    KEEP = "keep"


def retire(api: Api, host_name: str, how: Retirement) -> str:
    """Do the controller's part for one host; returns what was done, empty when there was nothing to do."""
    done = ""
    for worker in workers_of(api, host_name) if how is not Retirement.KEEP else ():
        try:
            if how is Retirement.DELETE:
                api.delete(f"/workers/{worker['id']}")
                done = "deleted at the controller; its results stay"
            elif how is Retirement.DELETE_WITH_DATA:
                api.delete(f"/workers/{worker['id']}", with_data="true")
                done = "deleted at the controller; its results are being removed"
            elif worker["state"] != "revoked":
                api.post(f"/workers/{worker['id']}/revoke")
                done = "revoked at the controller; its results stay"
        except NotFoundError:
            continue  # somebody else has deleted it meanwhile
    return done
