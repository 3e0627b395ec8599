"""Makes a controller as a suite wants it, over the REST API, one object after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from controller.errors import ConflictError
from controller.suites.changes import Change, Changes
from controller.suites.state import Api, State
from streamswarm.targets import shown


def apply(
    api: Api,
    changes: Changes,
    state: State,
    *,
    on_change: Callable[[Change, str], None] = lambda change, note: None,
) -> int:
    """Do what `compare` has found, based on the state that it was found from; returns how much was done.

    Raises ConflictError before anything is done when something stands in the way, and when somebody else was faster;
    calling it again with a new comparison goes on where it stopped. A destination that others still use is left, with
    the reason told to `on_change`.
    """
    if changes.conflicts:
        first = changes.conflicts[0]
        raise ConflictError(f"{first.sort} `{shown(first.name)}`: {first.reason}")
    ids = {name: item["id"] for name, item in state.destinations.items()}
    done = 0
    for change in changes.effective:
        note = _apply(api, change, ids)
        done += not note
        on_change(change, note)
    return done


def _apply(api: Api, change: Change, ids: dict[str, int]) -> str:
    """Do one change; returns why it was left, or the empty text."""
    folder = f"/{change.sort}s"
    if change.action == "delete":
        try:
            api.delete(f"{folder}/{quote(str(change.id))}")
        except ConflictError as error:
            if change.sort == "destination":
                return error.message
            raise
        return ""
    body = _body(change, ids)
    if change.action == "create":
        made = api.post(folder, body)
        if change.sort == "destination":
            ids[change.name.lower()] = made["id"]
    else:
        api.patch(f"{folder}/{quote(str(change.id))}", {**body, "version": change.version})
    return ""


def _body(change: Change, ids: Mapping[str, int]) -> dict[str, Any]:
    body = dict(change.body or {})
    if change.sort == "test" and "destinations" in body:
        body["destinations"] = [ids[name.lower()] for name in body["destinations"]]
    return body
