"""Clients of the application for tests: with a token, or logged in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from flask.testing import FlaskClient
from support.conformance import check_answer

PASSWORD = "correct horse battery"
#: How somebody reads instants and numbers who has chosen nothing.
NOTHING_CHOSEN = {"zone": "", "number_form": ""}


@dataclass(frozen=True)
class Api:
    """A client of the API with a token; every answer is checked against the OpenAPI document."""

    client: FlaskClient
    token: str

    def __call__(self, method: str, path: str, json: Any = None, **more: Any) -> Any:
        headers = {**more.pop("headers", {})}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        arguments = {"json": json} if json is not None else {}
        answer = self.client.open(f"/api/v1{path}", method=method, headers=headers, **arguments, **more)
        check_answer(self.client.application, method, path, answer)
        return answer


def csrf_of(client: FlaskClient, path: str = "/login") -> str:
    """Return the CSRF token in a page's form."""
    page = client.get(path).get_data(as_text=True)
    found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    assert found, page
    return found.group(1)


def log_in(client: FlaskClient, name: str, password: str = PASSWORD, **more: Any) -> Any:
    """Log in through the form."""
    data = {"csrf_token": csrf_of(client), "name": name, "password": password, **more}
    return client.post("/login", data=data)


def make_destination(api: Api, name: str = "One", address: str = "192.0.2.1") -> int:
    """Make a destination and return its id."""
    answer = api("POST", "/destinations", {"name": name, "address": address})
    assert answer.status_code == 201, answer.json
    return int(answer.json["id"])


def make_test(api: Api, **values: Any) -> dict[str, Any]:
    """Make a ping test and return it."""
    values = {"name": "T", "kind": "ping", "interval_s": 2, **values}
    if "destinations" not in values:
        values["destinations"] = [make_destination(api)]
    answer = api("POST", "/tests", values)
    assert answer.status_code == 201, answer.json
    made: dict[str, Any] = answer.json
    return made


def paths(answer: Any) -> dict[str, str]:
    """Return the faults of a refused input by path."""
    assert answer.status_code == 422, (answer.status_code, answer.json)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["status"] == 422
    return {fault["path"]: fault["message"] for fault in answer.json["errors"]}
