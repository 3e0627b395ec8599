"""Tokens over the API: shown, changed, given another secret; and one's own password."""

from __future__ import annotations

from collections.abc import Callable

from flask import Flask
from support.clients import PASSWORD, Api, csrf_of, log_in


def test_a_token_is_changed_and_keeps_its_scope(api: Api) -> None:
    """Name, description and end may change; the scope is for good."""
    made = api("POST", "/tokens", {"name": "ci", "scope": "operator"}).json
    changed = api(
        "PATCH",
        f"/tokens/{made['id']}",
        {"name": "CI", "description": "x", "expires_at": "2190-01-01T00:00:00Z"},
    )
    assert changed.status_code == 200
    assert changed.json == {k: v for k, v in made.items() if k != "token"} | {
        "name": "CI",
        "description": "x",
        "expires_at": "2190-01-01T00:00:00Z",
    }
    assert api("GET", f"/tokens/{made['id']}").json == changed.json
    for values, path in (
        ({"scope": "admin"}, "scope"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
    ):
        refused = api("PATCH", f"/tokens/{made['id']}", values)
        assert refused.status_code == 422
        assert [error["path"] for error in refused.json["errors"]] == [path]
    entries = [entry for entry in api("GET", "/audit").json["items"] if entry["action"] == "token.update"]
    assert len(entries) == 1


def test_another_secret_ends_the_old_one(app: Flask, api: Api) -> None:
    """The new one works at once and the old one no more; a revoked token gets none."""
    made = api("POST", "/tokens", {"name": "ci", "scope": "viewer"}).json
    again = api("POST", f"/tokens/{made['id']}/regenerate").json
    assert again["token"] != made["token"]
    assert again["prefix"] == again["token"][:10]
    assert Api(app.test_client(), made["token"])("GET", "/me").status_code == 401
    assert Api(app.test_client(), again["token"])("GET", "/me").json["role"] == "viewer"
    api("POST", f"/tokens/{made['id']}/revoke")
    for call in (("POST", "/regenerate"), ("PATCH", "")):
        refused = api(call[0], f"/tokens/{made['id']}{call[1]}", {})
        assert refused.status_code == 409


def test_others_tokens_do_not_exist(app: Flask, api: Api, make_user: Callable[..., int]) -> None:
    """A viewer sees and changes only their own, and a viewer's token cannot look after tokens at all."""
    theirs = api("POST", "/tokens", {"name": "ci", "scope": "viewer"}).json
    make_user("vera")
    client = app.test_client()
    log_in(client, "vera")
    headers = {"X-CSRFToken": csrf_of(client, "/")}
    mine = client.post("/api/v1/tokens", json={"name": "mine"}, headers=headers).json
    assert client.get(f"/api/v1/tokens/{mine['id']}").status_code == 200
    for method, path in (("GET", ""), ("PATCH", ""), ("POST", "/regenerate"), ("POST", "/revoke")):
        answer = client.open(f"/api/v1/tokens/{theirs['id']}{path}", method=method, json={}, headers=headers)
        assert answer.status_code == 404
    assert (
        Api(app.test_client(), mine["token"])("POST", f"/tokens/{mine['id']}/regenerate").status_code == 403
    )


def test_ones_own_password(app: Flask, api: Api, make_user: Callable[..., int]) -> None:
    """The old one must be right; then every session ends and the new one logs in. A token cannot."""
    make_user("vera")
    client = app.test_client()
    log_in(client, "vera")
    headers = {"X-CSRFToken": csrf_of(client, "/")}
    new = "another horse battery"
    wrong = client.post(
        "/api/v1/me/password", json={"old_password": "x", "new_password": new}, headers=headers
    )
    assert [error["path"] for error in wrong.json["errors"]] == ["old_password"]
    short = client.post(
        "/api/v1/me/password", json={"old_password": PASSWORD, "new_password": "x"}, headers=headers
    )
    assert [error["path"] for error in short.json["errors"]] == ["new_password"]
    done = client.post(
        "/api/v1/me/password", json={"old_password": PASSWORD, "new_password": new}, headers=headers
    )
    assert done.status_code == 204
    assert client.get("/api/v1/me").status_code == 401
    assert log_in(app.test_client(), "vera").status_code == 401
    assert log_in(app.test_client(), "vera", new).status_code == 302
    assert api("POST", "/me/password", {"old_password": PASSWORD, "new_password": new}).status_code == 403
