"""Every call that changes something leaves an entry in the audit log, with who it was; and no secret is in any."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text
from support.clients import PASSWORD, Api, csrf_of, log_in, make_destination, make_test

from controller.settings import Settings
from web.api.openapi import routes


@dataclass(frozen=True)
class Call:
    """A call that succeeds: its path with the ids of what was made before it, and its body."""

    method: str
    path: str
    body: dict[str, Any] | None = None
    #: What the audit log says of it; None when it changes nothing that is worth an entry.
    action: str | None = ""
    headers: dict[str, str] = field(default_factory=dict)


ANY = {"If-Match": "*"}
#: What each call does, in an order in which each succeeds. A route that is not here fails the test: say what it leaves.
CALLS = {
    "create_destination": Call("POST", "/destinations", {"name": "two", "address": "192.0.2.2"}, "destination.create"),
    "update_destination": Call("PATCH", "/destinations/{destination}", {"tags": ["a"]}, "destination.update", ANY),
    "create_test": Call("POST", "/tests", {"name": "two", "kind": "system", "interval_s": 60}, "test.create"),
    "preview_test": Call("POST", "/tests/preview", {"name": "three", "kind": "system", "interval_s": 60}, None),
    "update_test": Call("PATCH", "/tests/{test}", {"description": "x"}, "test.update", ANY),
    "pause_test": Call("POST", "/tests/{test}/pause", None, "test.pause"),
    "resume_test": Call("POST", "/tests/{test}/resume", None, "test.resume"),
    "run_test": Call("POST", "/tests/{test}/run", None, "test.run"),
    "stop_test": Call("POST", "/tests/{test}/stop", None, "test.stop"),
    "restart_test": Call("POST", "/tests/{test}/restart", None, "test.restart"),
    "create_report": Call("POST", "/reports", {"tests": ["{test}"], "last": "1h"}, "report.create"),
    "delete_report": Call("DELETE", "/reports/{report}", None, "report.delete"),
    "create_user": Call("POST", "/users", {"name": "eve", "password": "Zq7-secret-eve"}, "user.create"),
    "update_user": Call("PATCH", "/users/{user}", {"email": "a@example.org"}, "user.update"),
    "set_password": Call("POST", "/users/{user}/password", {"password": "Zq7-secret-two"}, "user.change_password"),
    "end_sessions": Call("POST", "/users/{user}/end-sessions", None, "user.end_sessions"),
    "create_login_link": Call("POST", "/users/{user}/login-link", None, "login_link.create"),
    "create_token": Call("POST", "/tokens", {"name": "two"}, "token.create"),
    "update_token": Call("PATCH", "/tokens/{token}", {"description": "x"}, "token.update"),
    "regenerate_token": Call("POST", "/tokens/{token}/regenerate", None, "token.regenerate"),
    "revoke_token": Call("POST", "/tokens/{token}/revoke", None, "token.revoke"),
    "create_enrolment_token": Call("POST", "/enrolment-tokens", {"host": "new.example.org"}, "enrolment_token.create"),
    "ask_operation": Call("POST", "/operations", {"kind": "verify", "limit": "oslo"}, "operation.start"),
    "begin_operation": Call("POST", "/operations/begun", {"kind": "verify", "hosts": ["z"]}, "operation.start"),
    # What it tells is the operation's own history, in up to 10,000 events.
    "tell_operation": Call("POST", "/operations/{begun}/events", {"version": "{version}"}, None),
    "finish_operation": Call(
        "POST", "/operations/{begun}/finish", {"version": "{version}", "state": "succeeded"}, "operation.finish"
    ),
    "cancel_operation": Call("POST", "/operations/{asked}/cancel", None, "operation.cancel"),
    "update_settings": Call("PATCH", "/settings", {"enrolment_token_minutes": 30}, "settings.update"),
    "update_worker": Call("PATCH", "/workers/{worker}", {"site": "oslo"}, "worker.update"),
    "note_drained_worker": Call("POST", "/workers/{worker}/drained", None, "worker.drained"),
    "note_resumed_worker": Call("POST", "/workers/{worker}/resumed", None, "worker.resumed"),
    "revoke_worker": Call("POST", "/workers/{worker}/revoke", None, "worker.revoke"),
    "delete_worker": Call("DELETE", "/workers/{worker}", None, "worker.delete"),
    "delete_test": Call("DELETE", "/tests/{test}", None, "test.delete"),
    "delete_destination": Call("DELETE", "/destinations/{destination}", None, "destination.delete"),
    "delete_user": Call("DELETE", "/users/{user}", None, "user.delete"),
}  # fmt: skip
#: Those that a token may not make.
PERSONAL = {
    "change_own_preferences": Call("PATCH", "/me", {"zone": "Asia/Kathmandu"}, "user.prefer"),
    "change_own_password": Call(
        "POST", "/me/password", {"old_password": PASSWORD, "new_password": "Zq7-secret-own"}, "user.change_password"
    ),
    "end_own_sessions": Call("POST", "/me/end-sessions", None, "user.end_sessions"),
}  # fmt: skip


def entries(engine: Engine) -> list[Any]:
    """Return the whole log, oldest first."""
    with engine.begin() as connection:
        rows = connection.execute(text("SELECT actor, address, action, detail::text FROM audit ORDER BY id"))
        return list(rows.all())


def filled(value: Any, ids: dict[str, Any]) -> Any:
    """Return a body in which the names of ids are replaced by them."""
    if isinstance(value, dict):
        return {name: filled(inner, ids) for name, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, ids) for inner in value]
    if isinstance(value, str) and value.startswith("{"):
        return ids[value[1:-1]]
    return value


@pytest.fixture
def ids(api: Api, make_user: Callable[..., int], worker: str) -> dict[str, Any]:
    """What the calls are about."""
    begun = api("POST", "/operations/begun", {"kind": "verify", "hosts": ["a"]}).json
    test = make_test(api)["id"]
    return {
        "destination": make_destination(api, "Other"),
        "test": test,
        "report": api("POST", "/reports", {"tests": [test], "last": "1h"}).json["id"],
        "user": make_user("ada"),
        "token": api("POST", "/tokens", {"name": "ci"}).json["id"],
        "asked": api("POST", "/operations", {"kind": "verify", "limit": "bergen"}).json["id"],
        "begun": begun["id"],
        "version": begun["version"],
        "worker": worker,
    }


def test_every_call_that_changes_something_is_here(app: Flask) -> None:
    """No route of the API that is no GET is left out, none is listed in vain."""
    changing = {
        rule.endpoint.partition(".")[2] for rule in routes(app) if (rule.methods or set()) - {"GET", "HEAD", "OPTIONS"}
    }  # fmt: skip
    assert changing == {*CALLS, *PERSONAL}


def test_every_change_is_written_down(
    api: Api, ids: dict[str, Any], engine: Engine, settings: Settings
) -> None:
    """One entry for each call, with the token that made it, the client's address and what was done."""
    (settings.data_dir / "ca").mkdir(parents=True)
    (settings.data_dir / "ca" / "root.pem").write_text("a certificate")
    secrets = [PASSWORD, api.token]
    for name, call in CALLS.items():
        before = len(entries(engine))
        answer = api(call.method, call.path.format(**ids), filled(call.body, ids), headers=call.headers)
        assert answer.status_code < 300, (name, answer.json)
        secrets += secrets_of(answer)
        new = entries(engine)[before:]
        expected = [] if call.action is None else [("token:a-admin", "127.0.0.1", call.action)]
        if name == "delete_worker":
            new = new[-1:]
        assert [tuple(entry[:3]) for entry in new] == expected, name
    kept = str(entries(engine))
    assert len(secrets) > 5
    assert [secret for secret in secrets if secret in kept] == []
    assert "Zq7-secret" not in kept


def test_changes_of_oneself_are_written_down(
    app: Flask, make_user: Callable[..., int], engine: Engine
) -> None:
    """With the user's own name."""
    make_user("ada")
    for name, call in PERSONAL.items():
        client = app.test_client()
        password = "Zq7-secret-own" if name == "end_own_sessions" else PASSWORD
        assert log_in(client, "ada", password).status_code == 302
        headers = {"X-CSRFToken": csrf_of(client, "/")}
        answer = client.open(f"/api/v1{call.path}", method=call.method, json=call.body or {}, headers=headers)
        assert answer.status_code == 204, answer.json
        assert tuple(entries(engine)[-1][:3]) == ("user:ada", "127.0.0.1", call.action)
    assert "Zq7-secret" not in str(entries(engine))


def test_a_change_that_fails_leaves_no_entry(api: Api, ids: dict[str, Any], engine: Engine) -> None:
    """What was rolled back was never done: neither a wrong input nor a conflict is in the log."""
    before = len(entries(engine))
    for method, path, body, status in (
        ("POST", "/destinations", {"name": "x", "address": "a;b"}, 422),
        (
            "DELETE",
            f"/destinations/{api('GET', '/tests').json['items'][0]['destinations'][0]['id']}",
            None,
            409,
        ),
        ("POST", "/users", {"name": "ADA", "password": "Zq7-secret-eve"}, 409),
    ):
        assert api(method, path, body).status_code == status
    assert len(entries(engine)) == before


def secrets_of(answer: Any) -> list[str]:
    """Return what an answer shows once."""
    shown = json.loads(answer.get_data(as_text=True) or "{}")
    return [shown[name].rpartition("/")[2] for name in ("token", "path") if name in shown]
